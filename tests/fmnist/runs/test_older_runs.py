"""Run folders of earlier versions must still load: the files below are as those wrote them."""

import io
import json
from pathlib import Path

from rich.console import Console

from fmnist.config import TrainConfig
from fmnist.data.info import DataInfo
from fmnist.runs.run_folder import kind_of, saved_config
from fmnist.runs.summary import read_summary, record
from fmnist.summary import closing_panel
from fmnist.training.metrics import EpochReport

TRAIN = """{
    "model": "airnet", "widths": [16, 64, 128], "dropout": null, "init": "pytorch", "weights": "",
    "normalisation": "standard", "train_images": 0, "validation_images": 5000,
    "class_weights": "equal", "optimizer": "muon", "lr": 0.012, "momentum": 0.9,
    "weight_decay": 0.1, "global_batch_size": 512, "label_smoothing": 0.1, "ema": 0.0, "epochs": 8,
    "schedule": "onecycle", "warmup": 0.1, "lr_factor": 0.1, "step_epochs": 10,
    "plateau_epochs": 3, "early_stopping": 0, "watch": "loss", "early_epochs": 0,
    "early_share": 1.0, "flip": true, "shift": 1, "rotate": 0.0, "scale": 0.0, "erase": 0.25,
    "erase_area": 0.4, "erase_fill": "mean", "cutmix": 0.0, "seed": 0, "precision": "bf16",
    "channels_last": true, "sync_batch_norm": true, "compile": false, "threads": 0
}"""
CONFIG = f"""{{
    "train": {TRAIN},
    "data": {{
        "name": "letters", "classes": ["a", "b"], "sha256": {{"train-images-idx3-ubyte": "c59f"}},
        "channels": 1, "image_size": 28, "fit": "mnist", "label_values": [1, 2], "source": "/data"
    }},
    "environment": {{
        "versions": {{"python": "3.11.7", "torch": "2.5.0"}}, "platform": "Linux",
        "git_commit": "c8814d5", "git_dirty": false
    }}
}}"""
METRICS = """{
    "validation_accuracy": 0.9321,
    "epoch": 1,
    "epochs": [
        {
            "epoch": 1, "train_loss": 0.61, "train_accuracy": 0.91, "validation_loss": 0.52,
            "validation_accuracy": 0.9321, "lr": 0.001, "images_per_s": 5120.5, "seconds": 10.7
        }
    ]
}"""
SUMMARY = f"""{{
    "version": 1,
    "plan_s": {{"search": 100.0, "retrain": 20.0}},
    "validation_accuracy": 0.9321, "trial_images": 5000,
    "test_accuracy": 0.9288, "test_images": 10000,
    "config": {TRAIN},
    "parity_provider": "CPUExecutionProvider", "onnx_test_accuracy": 0.9288,
    "parity_max_abs_diff": 2.1e-06, "parity_tolerance": 0.0001,
    "latency_p50_us": {{"pytorch": 200.0, "onnxruntime": 25.0}}, "latency_setting": "1 CPU thread",
    "seconds": {{"search": 101.5, "retrain": 21.25}},
    "peak_memory_mb": 903
}}"""


def test_config_loads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG)
    assert kind_of(tmp_path) == "training"
    saved = saved_config(tmp_path)
    assert saved is not None

    config = TrainConfig.from_dict(saved["train"])
    assert config.to_dict() == json.loads(TRAIN)
    assert config.widths == (16, 64, 128)
    info = DataInfo.from_dict(saved["data"])
    assert info.classes == ("a", "b")
    assert info.label_values == (1, 2)


def test_history_loads() -> None:
    (epoch,) = json.loads(METRICS)["epochs"]
    report = EpochReport.from_dict(epoch)
    assert report.metrics.to_dict() == epoch
    assert report.kept_epoch == 1


def test_summary_is_shown_without_what_later_versions_added(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(SUMMARY)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(closing_panel(tmp_path, read_summary(tmp_path)))
    shown = console.export_text()
    assert "airnet 16-64-128, muon, lr 0.012, batch 512" in shown
    assert "92.88% of 10,000 images" in shown
    assert "parity" not in shown

    record(tmp_path, "verify", 5.0, 100.0, {"panel": {"parity": "within 2.1e-06"}})
    summary = read_summary(tmp_path)
    assert summary["panel"] == {"parity": "within 2.1e-06"}
    assert summary["parity_max_abs_diff"] == 2.1e-06
    assert summary["seconds"] == {"search": 101.5, "retrain": 21.25, "verify": 5.0}
