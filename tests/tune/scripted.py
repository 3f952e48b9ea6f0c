"""Files of a search that was never run, made of scripted records, for the tests of its report."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmnist.config import TrainConfig
from fmnist.data.dataset import Split
from fmnist.evaluation.metrics import classification_metrics
from fmnist.evaluation.predictions import PREDICTIONS, save_predictions
from fmnist.runs.files import write_json
from fmnist.runs.summary import SUMMARY_VERSION
from tune.journal import TRIALS
from tune.rules.asha import Asha
from tune.searchers.sobol import candidates
from tune.space import SPACES
from tune.state import TrialRecord

HOSTILE = (
    '<b>&"quoted"',
    "</script><script>document.title='pwned'</script>",
    "Trouser",
    "Pullover",
    "T-shirt/top",
)
"""Class names, as a folder of images might give them."""
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "torch": "2.15.0", "ray": "2.60.0"},
    "platform": "Linux",
    "git_commit": "c8814d5" * 5,
}


def search_records(trials: int, epochs: int, seed: int = 0) -> list[TrialRecord]:
    """Make the records of a search under ASHA, with grace period 1 and reduction factor 3, four
    trials at once, and random accuracies.

    Of six trials or more, one diverges, one fails before its first epoch, and one is ended by the
    time budget.
    """
    source = random.Random(seed)
    base = TrainConfig(epochs=epochs, train_images=4000, validation_images=5000, threads=1)
    rule = Asha(1, 3, epochs)
    records: list[TrialRecord] = []
    for number, candidate in enumerate(candidates(SPACES["quick"], trials, seed)):
        config = base.replace(**candidate)
        record = TrialRecord(number, config, outcome="finished", images_per_s=2345.6)

        final_accuracy = source.uniform(0.55, 0.93)
        began = 3.0 * (number // 4)
        for epoch in range(1, epochs + 1):
            accuracy = final_accuracy - 0.3 * 0.5**epoch + source.gauss(0, 0.004)
            record.curve.append(round(accuracy, 4))
            record.times.append(round(began + epoch * source.uniform(2.0, 2.2), 2))
            decision, why = rule.report(number, epoch, record.curve[-1])
            if decision == "stop":
                record.outcome = f"stopped at {why}"
                break

        record.seconds = round(2.05 * len(record.curve), 2)
        records.append(record)

    # Their words would break a page that does not escape them.
    if trials >= 6:
        config = records[2].config
        records[1].outcome = "diverged: the loss is not finite <after epoch 1>"
        records[2] = TrialRecord(2, config, outcome="error: its process died & no epoch was done")
        records[3].outcome = "out of time"
    return records


def write_search(run: Path, records: list[TrialRecord], classes: tuple[str, ...] = HOSTILE) -> Path:
    """Write a run folder as the search leaves it before the winner is trained."""
    lines = [json.dumps(record.to_dict()) + "\n" for record in records]
    (run / TRIALS).parent.mkdir(parents=True, exist_ok=True)
    (run / TRIALS).write_text("".join(lines))

    epochs = records[0].config.epochs
    train = TrainConfig(epochs=epochs, train_images=4000, validation_images=5000)
    config = {
        "search": {
            "space": "quick",
            "grace_epochs": 1,
            "reduction_factor": 3,
            "search_seed": 0,
            "space_values": SPACES["quick"],
        },
        "train": train.to_dict(),
        "data": {"name": "Clothes & <others>", "classes": list(classes), "sha256": {}},
        "environment": ENVIRONMENT,
    }
    write_json(run / "config.json", config)
    summary = {
        "version": SUMMARY_VERSION,
        "seconds": {"search": 131.4},
        "peak_memory_mb": 2345,
    }
    write_json(run / "summary.json", summary)
    return run


def write_best(
    run: Path,
    classes: int = len(HOSTILE),
    images: int = 600,
    epochs: int = 6,
    folder: Path | str = "",
) -> Path:
    """Add what retraining leaves: a model that errs on some images, of the data in `folder`."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % classes
    noise = torch.randn(images, classes, generator=source)
    logits = noise + 2.5 * torch.nn.functional.one_hot(labels, classes)
    pixels = torch.randint(0, 256, (images, 28, 28), generator=source, dtype=torch.uint8)
    save_predictions(run / "best" / PREDICTIONS, logits, Split(pixels, labels), folder)

    history: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        metrics = {
            "epoch": epoch,
            "train_loss": 0.3 + 1 / epoch,
            "train_accuracy": 0.9 - 0.3 / epoch,
            "validation_accuracy": None,
        }
        history.append(metrics)

    # Nothing was held out for the winner, so only the test images tell.
    test = classification_metrics(logits, labels)
    write_json(run / "best/metrics.json", {"test": test, "epochs": history})
    return run


def write_export(run: Path) -> Path:
    """Add what verification and the benchmark leave."""
    parity = {
        "provider": "cpu",
        "images": 600,
        "max_abs_diff": 3.8e-06,
        "tolerance": 1.6e-4,
        "labels_differing": 0,
        "pytorch_accuracy": 0.91,
        "onnx_accuracy": 0.91,
    }
    rows = [
        benchmark_row("pytorch", 1, p50_us=1218.4, p99_us=1583.9),
        benchmark_row("onnxruntime", 1, p50_us=281.3, p99_us=365.7),
        benchmark_row("pytorch", 256, p50_us=90210.0),
        benchmark_row("onnxruntime", 256, p50_us=51000.5),
    ]
    write_json(run / "export/verify.json", parity)
    write_json(run / "export/benchmark.json", {"rows": rows, "machine": {}})
    return run


def benchmark_row(
    backend: str, batch: int, *, p50_us: float, p99_us: float | None = None
) -> dict[str, Any]:
    return {
        "backend": backend,
        "provider": "cpu",
        "mode": "single-stream",
        "threads": 1,
        "batch": batch,
        "calls": 1000,
        "p50_us": p50_us,
        "p90_us": round(1.1 * p50_us, 1),
        "p99_us": p99_us,
        "images_per_s": round(1e6 * batch / p50_us, 1),
        "warmup_ms": 3.0,
    }


def read_npz(path: Path) -> dict[str, Any]:
    with np.load(path) as arrays:
        return dict(arrays)
