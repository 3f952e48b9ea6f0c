"""Runs that were never run: the files of a search, made of scripted records, for the tests of its report."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmnist.config import TrainConfig
from fmnist.data import Split
from fmnist.evaluate import PREDICTIONS, classification_metrics, save_predictions
from fmnist.run import write_json
from fmnist.summary import SUMMARY_VERSION
from tune.asha import Asha
from tune.journal import TRIALS
from tune.space import SPACES, candidates
from tune.state import TrialRecord

HOSTILE = ('<b>&"quoted"', "</script><script>document.title='pwned'</script>", "Trouser", "Pullover", "T-shirt/top")
"""Names of classes, as a folder of images might give them."""
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "torch": "2.15.0", "ray": "2.60.0"},
    "platform": "Linux",
    "git_commit": "c8814d5" * 5,
}


def search_records(trials: int, epochs: int, seed: int = 0) -> list[TrialRecord]:
    """A search under ASHA with grace period 1 and reduction factor 3, four trials at once, in which chance decides; a trial
    diverges, one fails before its first epoch, and one is ended by the time budget."""
    source = random.Random(seed)
    base = TrainConfig(epochs=epochs, train_images=4000, validation_images=5000, threads=1)
    rule = Asha(1, 3, epochs)
    records: list[TrialRecord] = []
    for number, candidate in enumerate(candidates(SPACES["quick"], trials, seed)):
        record = TrialRecord(number, base.replace(**candidate), outcome="finished", images_per_s=2345.6)
        good, began = source.uniform(0.55, 0.93), 3.0 * (number // 4)
        for epoch in range(1, epochs + 1):
            record.curve.append(round(good - 0.3 * 0.5**epoch + source.gauss(0, 0.004), 4))
            record.times.append(round(began + epoch * source.uniform(2.0, 2.2), 2))
            decision, why = rule.report(number, epoch, record.curve[-1])
            if decision == "stop":
                record.outcome = f"stopped at {why}"
                break
        record.seconds = round(2.05 * len(record.curve), 2)
        records.append(record)
    if trials >= 6:
        records[1].outcome = "diverged: the loss is not finite <after epoch 1>"
        records[2] = TrialRecord(2, records[2].config, outcome="error: its process died & no epoch was done")
        records[3].outcome = "out of time"
    return records


def write_search(run: Path, records: list[TrialRecord], classes: tuple[str, ...] = HOSTILE) -> Path:
    """A run folder as the search leaves it before the winner is trained."""
    run.mkdir(parents=True, exist_ok=True)
    (run / TRIALS).parent.mkdir(exist_ok=True)
    (run / TRIALS).write_text("".join(json.dumps(record.to_dict()) + "\n" for record in records))
    search = {"space": "quick", "grace_epochs": 1, "reduction_factor": 3, "search_seed": 0, "space_values": SPACES["quick"]}
    data = {"name": "Clothes & <others>", "classes": list(classes), "sha256": {}}
    train = TrainConfig(epochs=records[0].config.epochs, train_images=4000, validation_images=5000).to_dict()
    write_json(run / "config.json", {"search": search, "train": train, "data": data, "environment": ENVIRONMENT})
    summary: dict[str, Any] = {"version": SUMMARY_VERSION, "seconds": {"search": 131.4}, "peak_memory_mb": 2345}
    write_json(run / "summary.json", summary)
    return run


def write_best(run: Path, classes: int = len(HOSTILE), images: int = 600, epochs: int = 6) -> Path:
    """What retraining adds to it: a model that errs on some images."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    logits = torch.randn(images, classes, generator=source) + 2.5 * torch.nn.functional.one_hot(labels, classes)
    split = Split(torch.randint(0, 256, (images, 28, 28), generator=source, dtype=torch.uint8), labels)
    save_predictions(run / "best" / PREDICTIONS, logits, split)
    history = [
        {"epoch": epoch, "train_loss": 0.3 + 1 / epoch, "train_accuracy": 0.9 - 0.3 / epoch, "validation_accuracy": None}
        for epoch in range(1, epochs + 1)
    ]
    write_json(run / "best/metrics.json", {"test": classification_metrics(logits, labels), "epochs": history})
    return run


def write_export(run: Path) -> Path:
    """What verification and the benchmark add."""
    parity = {"provider": "cpu", "images": 600, "max_abs_diff": 3.8e-06, "tolerance": 1.6e-4, "labels_differing": 0}
    write_json(run / "export/verify.json", parity | {"pytorch_accuracy": 0.91, "onnx_accuracy": 0.91})
    speeds = (("pytorch", 1, 1218.4), ("onnxruntime", 1, 281.3), ("pytorch", 256, 90210.0), ("onnxruntime", 256, 51000.5))
    rows = [
        {
            "backend": backend,
            "provider": "cpu",
            "mode": "single-stream",
            "threads": 1,
            "batch": batch,
            "calls": 1000,
            "p50_us": p50,
            "p90_us": round(1.1 * p50, 1),
            "p99_us": None if batch > 1 else round(1.3 * p50, 1),
            "images_per_s": round(1e6 * batch / p50, 1),
            "warmup_ms": 3.0,
        }
        for backend, batch, p50 in speeds
    ]
    write_json(run / "export/benchmark.json", {"rows": rows, "machine": {}})
    return run


def read_npz(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)
