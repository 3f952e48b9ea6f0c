"""Rows of the reports' table, written by hand."""

from typing import Any


def row(recipe: str, seed: int, accuracy: float, **more: Any) -> dict[str, Any]:
    """A row whose scores are all `accuracy`."""
    values: dict[str, Any] = {
        "recipe": recipe,
        "seed": seed,
        "data": "Fashion-MNIST",
        "epochs": 10,
        "epochs_trained": 10,
        "shortened": False,
        "test_accuracy": accuracy,
        "validation_accuracy": accuracy,
        "train_accuracy": accuracy,
        "macro_f1": accuracy,
        "macro_precision": accuracy,
        "class_f1": [accuracy] * 10,
        "auroc": 0.99,
        "test_loss": 0.3,
        "train_s": 60.0,
        "images_per_s": 100,
        "hardware": "a slow one",
        "precision": "fp32",
        "torch": "2.0",
    }
    return values | more


def ensemble_row(recipe: str, accuracy: float, **more: Any) -> dict[str, Any]:
    """A row of an ensemble, which has neither epochs nor a machine's precision."""
    trained = ("epochs", "epochs_trained", "precision", "torch", "train_s", "images_per_s")
    values = row(recipe, 0, accuracy, **more)
    return {key: value for key, value in values.items() if key not in trained}
