"""A real Ray, real worker processes, real gloo."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandLine, Outcome

LENET = (
    "--recipe",
    "e-lenet-0.05",
    "--precision",
    "fp32",
    "--validation-images",
    500,
    "--global-batch-size",
    64,
    "--epochs",
    2,
)
SMOOTH = (
    "--init",
    "pytorch",
)  # under the recipe's own initialisation the first steps are so steep that rounding errors grow


@pytest.mark.processes
@pytest.mark.cluster
def test_two_workers_give_the_curve_of_one_process(
    command: CommandLine, call: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert command("fmnist.train", *LENET, *SMOOTH, "--name", "plain").returncode == 0
    ddp = command("cluster.train", *LENET, *SMOOTH, "--workers", 2, "--name", "ddp")
    assert ddp.returncode == 0, ddp.stderr
    assert "lenet on 2 workers with 1 CPU thread each" in ddp.stdout
    assert ddp.stdout.count("epoch 1/2") == 1
    one, two = (
        json.loads((tmp_path / f"runs/{name}/best/metrics.json").read_text())["epochs"]
        for name in ("plain", "ddp")
    )
    assert [row["epoch"] for row in two] == [1, 2]
    assert two[0]["train_loss"] == pytest.approx(one[0]["train_loss"], abs=1e-5)
    assert two[1]["validation_loss"] == pytest.approx(one[1]["validation_loss"], abs=1e-4)

    assert (
        "complete: nothing to do"
        in call("cluster.train", *LENET, "--name", "ddp", "--resume").output
    )


@pytest.mark.full
@pytest.mark.cluster
def test_divergence_is_told_in_one_line_and_not_tried_again(
    command: CommandLine, tmp_path: Path
) -> None:
    done = command("cluster.train", *LENET, "--lr", 1e9, "--name", "diverged")
    assert done.returncode == 2
    assert done.stderr.startswith("error: lenet: epoch 1: the training loss is nan; lower lr=")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs/diverged/best").exists()
