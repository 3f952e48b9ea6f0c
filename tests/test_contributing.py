"""CONTRIBUTING.md is followed to the letter: its files are written, its lines added, its
commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, CommandLine

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def apply(diff: list[str], path: Path) -> None:
    """Each hunk: lines of context that must stand together in the file, with what is taken out
    and put in."""
    for hunk in "\n".join(diff).split("\n@@\n"):
        lines = hunk.split("\n")
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] != "+")
        after = "".join(f"{line[1:]}\n" for line in lines if line[0] != "-")
        text = path.read_text()
        assert text.count(before) == 1, (
            f"CONTRIBUTING.md shows lines that {path} does not have once:\n{before}"
        )
        path.write_text(text.replace(before, after))


@pytest.mark.full
@pytest.mark.cluster
def test_a_strangers_additions_work(command: CommandLine, tmp_path: Path) -> None:
    rooms = ("fmnist", "cluster", "tune", "export", "tests", "benchmarks")
    listed = subprocess.run(
        ["git", "ls-files", *rooms], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    environment = command.environment | {
        "PYTHONPATH": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    ran: list[str] = []
    for language, text in FENCE.findall((ROOT / "CONTRIBUTING.md").read_text()):
        first, *rest = text.rstrip("\n").split("\n")
        if language == "bash":
            for line in text.splitlines():
                if line.startswith("python"):
                    short = (
                        ["--validation-images", "500"]
                        if "fmnist.train --" in line and "list" not in line
                        else []
                    )
                    short += ["--global-batch-size", "128"] if short else []
                    done = subprocess.run(
                        shlex.split(line) + short,
                        cwd=tmp_path,
                        env=environment,
                        capture_output=True,
                        text=True,
                    )
                    assert done.returncode == 0, f"{line}\n{done.stderr}"
                    ran.append(done.stdout)
        elif language == "diff":
            apply(rest, tmp_path / first.removeprefix("# "))
        else:
            (tmp_path / first.removeprefix("# ")).write_text("\n".join(rest) + "\n")
    said = "\n".join(ran)
    for words in (
        "passed on cpu: 500 test images",
        "mlp-quick",
        "minutes",
        "--space mlp",
        "runs/quick: mlp, 203,530 parameters",
    ):
        assert words in said
