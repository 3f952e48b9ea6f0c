"""A copy of Fashion-MNIST's files."""

import shutil
from pathlib import Path

import pytest

from fmnist.data.formats import SHA256


@pytest.fixture
def fashion(data_folder: Path, tmp_path: Path) -> Path:
    """A copy of Fashion-MNIST's files, to be damaged."""
    for name in SHA256:
        shutil.copy(data_folder / f"{name}.gz", tmp_path)
    return tmp_path
