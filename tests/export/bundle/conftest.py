import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.training.checkpoint import Checkpoint


@pytest.fixture(scope="session")
def whole(
    checkpoint: Checkpoint,
    make_bundle: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    return make_bundle(tmp_path_factory.mktemp("whole"), checkpoint).parent


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A copy to be tampered with."""
    return shutil.copytree(whole, tmp_path / "export")
