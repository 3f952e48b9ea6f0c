"""Joining a cluster or a storage that is not there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Outcome


def test_an_address_where_nothing_answers(call: Callable[..., Outcome], tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"):
        done = call("cluster.train", "--address", address, "--validation-images", 500)
        assert done.code == 2
        assert f"address='{address}'" in done.output
        assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("/proc/nothing", "storage='/proc/nothing': it cannot be written to"),
        (
            "gs://bucket/runs",
            "storage='gs://bucket/runs': gs:// is not known; give a folder, or s3://BUCKET/PREFIX",
        ),
        ("s3://", "storage='s3://': it names no bucket"),
    ],
)
def test_a_storage_that_cannot_be(
    call: Callable[..., Outcome], tmp_path: Path, storage: str, words: str
) -> None:
    for module in ("cluster.train", "tune.search"):
        done = call(module, "--storage", storage)
        assert done.code == 2
        assert words in done.output
        assert not (tmp_path / "runs").exists()
