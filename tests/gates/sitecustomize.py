"""The half of a gate that stands in the process under test: Python imports this file as it starts,
if tests/gates is on PYTHONPATH.

Every learning rate schedule of the public registry is replaced by one that first waits at the gates
that are closed. A schedule is asked at each step, on every rank, and told how many epochs are
behind it, so a training waits exactly where a test wants it.

FMNIST_TEST_NETWORK replaces every network of the registry: `neuron` by a single neuron, which
trains faster than any machine does anything else; `oracle` by one whose accuracy is its learning
rate, so that a test knows which trial is better. FMNIST_TEST_CPUS is how many threads the process
believes that it may use: as many as ever, although it was pinned to one.

`tests/gates/__init__.py` has the other half.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

GATES = os.environ.get("FMNIST_TEST_GATES")
NETWORK = os.environ.get("FMNIST_TEST_NETWORK")
CPUS = os.environ.get("FMNIST_TEST_CPUS")
POLL_S = 0.01


def wait_at_closed_gates(config: Any, epoch: float) -> None:
    """Wait while a gate is closed for this training. Args: epoch: whole and broken epochs behind
    it."""
    assert GATES is not None
    for gate in Path(GATES).iterdir():
        if gate.suffix != ".gate":
            continue
        try:
            closed = json.loads(gate.read_text())
        except FileNotFoundError:  # opened while we looked
            continue
        matches = all(getattr(config, field) == value for field, value in closed["where"].items())
        if epoch < closed["epoch"] or not matches:
            continue
        here = gate.with_suffix(f".{os.getpid()}")
        held = b"x" * closed["take_bytes"]
        here.touch()
        while gate.exists():
            time.sleep(POLL_S)
        del held
        here.unlink(missing_ok=True)


def gated(schedule: Any) -> Any:
    def wait_and_ask(config: Any, epoch: float, progress: float, losses: Sequence[float]) -> float:
        wait_at_closed_gates(config, epoch)
        return schedule(config, epoch, progress, losses)

    return wait_and_ask


def register_gates(module: ModuleType) -> None:
    for name, schedule in module.SCHEDULES.items():
        module.SCHEDULES[name] = gated(schedule)


def build_neuron(config: Any, problem: Any) -> Any:
    """A single neuron that sees the mean of the image."""
    from torch import nn

    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(problem.channels, 1),
        nn.Linear(1, problem.classes),
    )


def build_oracle(config: Any, problem: Any) -> Any:
    """A neuron in training; evaluated, it knows the label of the share `lr` of the images in
    FMNIST_DATA, and says 0 of the others.

    An image is known by the pixels that are not background, which normalisation leaves as they are.
    """
    import numpy as np
    import torch
    from torch import Tensor, nn

    from fmnist.data.idx import parse_idx

    def key_of(image: Any) -> bytes:
        return np.packbits(image > image.min()).tobytes()

    folder = Path(os.environ["FMNIST_DATA"])
    labels: dict[bytes, int] = {}
    for prefix in ("train", "t10k"):
        images, numbers = (
            parse_idx(path := folder / f"{prefix}-{kind}-ubyte", path.read_bytes())
            for kind in ("images-idx3", "labels-idx1")
        )
        labels |= {
            key_of(image): int(number) for image, number in zip(images, numbers, strict=True)
        }

    class Oracle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = build_neuron(config, problem)

        def forward(self, images: Tensor) -> Tensor:  # (B, 1, H, W) -> (B, classes)
            if self.training:
                return self.neuron(images)
            answers: list[int] = []
            for image in images[:, 0].float().cpu().numpy():
                key = key_of(image)
                knows = zlib.crc32(key) % 1000 < 1000 * config.lr
                answers.append(labels.get(key, 0) if knows else 0)
            return 10.0 * nn.functional.one_hot(torch.tensor(answers), problem.classes).float()

    return Oracle()


NETWORKS = {"neuron": build_neuron, "oracle": build_oracle}


def register_network(module: ModuleType) -> None:
    for name in module.MODELS:
        module.MODELS[name] = NETWORKS[NETWORK or ""]


REGISTER: dict[str, Callable[[ModuleType], None]] = {}
"""What is done to a module once it is executed."""
if GATES:
    REGISTER["fmnist.training.schedules"] = register_gates
if NETWORK:
    REGISTER["fmnist.models"] = register_network


class RegisteringFinder(importlib.abc.MetaPathFinder):
    """Finds the modules that hold the registries as everyone does, and registers once they are
    executed."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in REGISTER:
            return None
        register = REGISTER.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register(module)

        setattr(spec.loader, "exec_module", execute_and_register)  # noqa: B010
        return spec


if CPUS:
    os.sched_getaffinity = lambda pid: set(range(int(CPUS or 1)))

if REGISTER:
    sys.meta_path.insert(0, RegisteringFinder())
