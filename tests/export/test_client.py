"""The client: the data set's own images as they are, others fitted; whole bundles only; no PyTorch."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.bundle import write_bundle
from export.client import Client, ClientError
from export.to_onnx import to_onnx
from fmnist.checkpoint import Checkpoint
from fmnist.data import Split
from fmnist.evaluate import compute_logits
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "export"
    write_bundle(folder, to_onnx(checkpoint), checkpoint)
    return folder


def test_answers_are_pytorchs(bundle: Path, checkpoint: Checkpoint, official_test: Split) -> None:
    client = Client(bundle)
    expected = compute_logits(checkpoint.model, official_test.images[:100]).softmax(1)
    found = client.probabilities(official_test.images[:100].numpy())
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    best = client.top(Image.fromarray(official_test.images[0].numpy()))
    assert len(best) == 3
    assert best[0][0] == checkpoint.data.classes[int(expected[0].argmax())]
    assert best[0][1] == pytest.approx(float(expected[0].max()), abs=1e-5)


def test_changed_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "manifest.json"):
        (tmp_path / name).write_bytes((bundle / name).read_bytes())
    content = bytearray((tmp_path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ClientError, match="SHA-256"):
        Client(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ClientError, match="not a whole bundle"):
        Client(tmp_path)


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that holds onnxruntime, numpy and Pillow, and what they need."""
    folder = tmp_path_factory.mktemp("bare")
    uv = ROOT / ".venv/bin/uv"
    subprocess.run([uv, "venv", "--quiet", folder], check=True)
    python = folder / "bin/python"
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "onnxruntime", "numpy", "pillow"], check=True)
    return python


@pytest.mark.slow
def test_predicts_where_there_is_no_pytorch(bare_python: Path, bundle: Path, official_test: Split, tmp_path: Path) -> None:
    image = tmp_path / "boot.png"
    Image.fromarray(official_test.images[0].numpy()).save(image)
    no_torch = subprocess.run([bare_python, "-c", "import torch"], capture_output=True)
    assert no_torch.returncode != 0
    label, probability = Client(bundle).top(Image.open(image))[0]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    commands = (
        [bare_python, "-m", "export.predict", image, "--run", bundle.parent],
        [bare_python, bundle / "client.py", image],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stderr
        assert f"{label} {probability:.1%}" in done.stdout
        bad = subprocess.run([*command, tmp_path / "none.png"], capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert bad.returncode == 2
        assert bad.stderr.startswith("error: image=")
        assert label in bad.stdout
