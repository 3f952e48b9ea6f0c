"""Ray's private names: all in cluster/ray_compat.py, and all still there. The test suite's own
are looked for too."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest
import ray
import ray.train.torch
from packaging.requirements import Requirement

from tests.conftest import ROOT

ROOMS = ("fmnist", "cluster", "tune", "export", "benchmarks", "tests")
COMPAT = ROOT / "cluster/ray_compat.py"


def is_private(module: str, names: list[str]) -> bool:
    parts = module.split(".")
    return parts[0] == "ray" and any(part.startswith("_") for part in [*parts, *names])


def private_imports(path: Path) -> list[tuple[str, str]]:
    """Module and name of each private import from Ray in a file; the name is empty where the
    module itself is imported."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [
                (node.module, alias.name)
                for alias in node.names
                if is_private(node.module, [alias.name])
            ]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if is_private(alias.name, [])]
    return found


SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
USED = {(module, name): path for path in SOURCES for module, name in private_imports(path)}


@pytest.mark.parametrize(("module", "name"), sorted(USED), ids=".".join)
def test_ray_still_has_it(module: str, name: str) -> None:
    where = USED[module, name].relative_to(ROOT)
    remedy = (
        f"ray {ray.__version__} has no {module}.{name} any more: mend {where}, or bound ray below"
        " it in pyproject.toml"
    )
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        pytest.fail(f"{remedy} ({error})")
    assert not name or hasattr(found, name), remedy


def test_ray_still_has_the_members_that_we_replace() -> None:
    from cluster import ray_compat

    for member in ray_compat.PRIVATE_MEMBERS:
        kind, _, name = member.partition(".")
        assert hasattr(getattr(ray_compat, kind), name), (
            f"ray {ray.__version__} has no {member} any more: mend cluster/"
        )
    for name in ("_create_default_callbacks", "_initialize_and_run_controller"):
        assert hasattr(ray.train.torch.TorchTrainer, name), (
            f"ray {ray.__version__}: no TorchTrainer.{name}: mend cluster/trainer.py"
        )


def test_no_other_file_of_the_product_imports_ray_s_private_names() -> None:
    product = {path for path in USED.values() if path.relative_to(ROOT).parts[0] != "tests"}
    assert product == {COMPAT}


def test_ray_is_bounded_by_what_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = (
        one.specifier for one in map(Requirement, project["dependencies"]) if one.name == "ray"
    )
    major, minor = map(int, ray.__version__.split(".")[:2])
    assert ray.__version__ in bound
    assert f"{major}.{minor + 1}.0" not in bound
