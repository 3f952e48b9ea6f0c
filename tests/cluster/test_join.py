"""Joining a Ray that others started: its token, its versions."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandLine

TOKEN = "0123456789abcdef0123456789abcdef"
CLUSTER = """
import ray, sys
context = ray.init(
    address="local",
    num_cpus=2,
    object_store_memory=100_000_000,
    include_dashboard=False,
    log_to_driver=False,
)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
OTHER = """
import platform, ray, runpy, sys
{change}
sys.argv = ["cluster.train", *sys.argv[1:]]
runpy.run_module("cluster.train", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Ray with a token, whose processes find another PyTorch than ours."""
    other_torch = tmp_path_factory.mktemp("other")
    (other_torch / "torch-1.2.3.dist-info").mkdir()
    (other_torch / "torch-1.2.3.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n"
    )
    with tempfile.TemporaryDirectory(prefix="fm", ignore_cleanup_errors=True) as folder:
        changes = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": TOKEN,
            "RAY_TMPDIR": folder,
            "PYTHONPATH": f"{other_torch}:{ROOT}",
        }
        words = [sys.executable, "-c", CLUSTER]
        with subprocess.Popen(
            words,
            env=os.environ | changes,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            yield process.stdout.readline().strip()
            process.stdin.close()


@pytest.mark.full
@pytest.mark.cluster
@pytest.mark.parametrize(
    ("token", "words"),
    [
        (
            {"RAY_AUTH_TOKEN": "f" * 32},
            "the cluster wants its token, and this machine has none or another",
        ),
        (
            {"RAY_AUTH_TOKEN_PATH": "/nowhere"},
            "the cluster wants its token, and this machine has none or another",
        ),
        ({"RAY_AUTH_TOKEN": TOKEN}, "has torch 1.2.3, the driver "),
    ],
)
def test_a_wrong_token_and_another_version_are_told_in_a_line(
    command: CommandLine, tmp_path: Path, address: str, token: dict[str, str], words: str
) -> None:
    command.environment.update(token, RAY_AUTH_MODE="token")
    done = command(
        "cluster.train", "--address", address, "--validation-images", 500, "--train-images", 1000
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").glob("*/config.json"))


@pytest.mark.full
@pytest.mark.cluster
@pytest.mark.parametrize(
    ("change", "words", "version"),
    [
        ("ray.__version__ = '2.59.0'", "its versions are not ours", "2.59.0"),
        (
            "platform.python_version = lambda: '3.9.1'",
            "has Python 3.",
            "the driver 3.9.1: install the same on both",
        ),
    ],
)
def test_another_ray_or_python_is_told_in_a_line(
    change: str, words: str, version: str, command: CommandLine, tmp_path: Path, address: str
) -> None:
    command.environment.update(RAY_AUTH_TOKEN=TOKEN, RAY_AUTH_MODE="token")
    call = [
        sys.executable,
        "-c",
        OTHER.format(change=change),
        "--address",
        address,
        "--validation-images",
        "500",
        "--train-images",
        "1000",
    ]
    done = subprocess.run(
        call, cwd=tmp_path, env=command.environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert version in done.stderr
    assert "Traceback" not in done.stderr
