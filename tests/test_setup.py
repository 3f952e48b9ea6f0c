"""The locks that make setup and make setup-dev install."""

import re
import subprocess

from tests.conftest import ROOT


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (ROOT / lock).read_text(), re.M))


def test_the_tests_run_with_the_very_packages_that_a_user_gets() -> None:
    product, everything = pins("requirements.lock"), pins("requirements-dev.lock")
    assert product.items() < everything.items()
    assert {"torch", "ray", "onnxruntime-gpu", "uv"} <= product.keys()
    assert (
        not {"pytest", "ruff", "moto", "playwright", "pytorch-lightning", "openvino"}
        & product.keys()
    )


def test_every_package_has_hashes_and_no_lock_names_a_registry() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        blocks = re.split(r"^(?=[a-z])", text, flags=re.M)[1:]
        assert all("--hash=sha256:" in block for block in blocks)
        assert "://" not in text


def test_the_makefile_plans_no_work_where_all_is_done() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "setup-dev"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "install.sh" not in planned
