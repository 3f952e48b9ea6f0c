"""Images once on each node: through the object store, from the file, or copied from the driver."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CommandLine

SCRIPT = """
import dataclasses, json, os, sys
from pathlib import Path

import numpy as np
import ray
import torch

from cluster import shared_data
from cluster.shared_data import SharedFile, share_data
from fmnist.data import images as images_module
from fmnist.data.dataset import Split, TrainingData
from fmnist.data.idx import write_idx
from fmnist.data.images import Images, PixelFile

folder, nodes = Path(sys.argv[1]), Path(sys.argv[2])
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
pixels = np.random.default_rng(0).integers(0, 256, (300, 20, 10), np.uint8)
write_idx(folder / "images", pixels)


def split_of(source, first, last):
    return Split(Images(source, torch.arange(first, last)), torch.arange(first, last) % 7)


def kind(image):
    return "file" if image.in_file else "store"


@ray.remote
def look(shared):
    data = shared.open()
    assert np.array_equal(data.train.images.tensor().numpy(), pixels[:200])
    assert np.array_equal(data.validation.images[:].numpy(), pixels[200:])
    assert data.train.labels.tolist() == [number % 7 for number in range(200)]
    same = data.train.images.pixels.data_ptr() == data.validation.images.pixels.data_ptr()
    return kind(data.train.images), same, data.statistics[0].item()


@ray.remote
def copy(shared_file, cache):
    os.environ["XDG_CACHE_HOME"] = cache
    file = shared_file.open()
    return str(file.path), file.pixels.flatten(1).sum(1).tolist()


def sums(values):
    return values.reshape(len(values), -1).sum(1).tolist()


found = {}
source = PixelFile(folder / "images")
data = TrainingData(split_of(source, 0, 200), split_of(source, 200, 300), 7)
found["small"] = ray.get(look.remote(share_data(data)))
found["mean"] = data.statistics[0].item()

shared_data.LARGEST_MAPPED = 1000
shared_data.COPIED_AT_ONCE = 9999
shared = share_data(data)
found["large"] = ray.get(look.remote(shared))

# A node that does not see the file: two processes of it ask at once.
[file] = shared.pixels
assert isinstance(file, SharedFile)
elsewhere = dataclasses.replace(file, path=Path("/nowhere/images"))
answers = ray.get([copy.remote(elsewhere, str(nodes)) for _ in range(2)])
found["copies"] = [path for path, _ in answers]
found["whole"] = all(each == sums(pixels) for _, each in answers)

wrong = dataclasses.replace(elsewhere, sha256="0" * 64)
try:
    ray.get(copy.remote(wrong, str(nodes)))
except ray.exceptions.RayTaskError as error:
    found["damaged"] = str(error.cause)
print(json.dumps(found))
"""


@pytest.mark.cluster
@pytest.mark.processes
def test_every_node_has_the_images_once(command: CommandLine, tmp_path: Path) -> None:
    script, nodes = tmp_path / "share.py", tmp_path / "nodes"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(tmp_path), str(nodes)]
    done = subprocess.run(words, env=command.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    # Training and validation images are rows of the same pixels.
    assert found["small"] == ["store", True, found["mean"]]
    kind, _, mean = found["large"]
    assert (kind, mean) == ("file", found["mean"])

    first, second = found["copies"]
    assert first == second
    assert Path(first).parent == nodes / "fmnist/nodes"
    assert found["whole"]
    assert "instead of 000000000000…: it changed while it was copied" in found["damaged"]
    kept = sorted(path.name for path in (nodes / "fmnist/nodes").iterdir())
    assert kept == sorted([Path(first).name, f"{Path(first).name}.lock", *_locks(kept, first)])


def _locks(names: list[str], copied: str) -> list[str]:
    """The lock of the copy that failed, of which nothing else is left."""
    known = {Path(copied).name, f"{Path(copied).name}.lock"}
    others = [name for name in names if name not in known]
    assert all(name.endswith(".lock") for name in others)
    return others
