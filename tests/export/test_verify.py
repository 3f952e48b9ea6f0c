"""The commands to_onnx and verify, end to end."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from export.bundle import verification
from export.bundle.signature import sign
from export.bundle.verification import describe_values
from export.verify import VerifyOptions
from export.verify import main as verify_main
from fmnist.runs.files import read_json
from tests.conftest import Outcome
from tests.export.bundle.tampering import change_graph, flip_bit, new_key


def times(folder: Path) -> list[tuple[str, int]]:
    return sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())


def test_the_commands_end_to_end(
    run: Path, tmp_path: Path, call: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = call("export.to_onnx", run, "--variants", "int8")
    assert exported.code == 0, exported.output
    assert "int8: " in exported.output
    assert read_json(run / "summary.json")["files"]["model"] == "export/model.onnx"

    done = call("export.verify", run)
    assert done.code == 0, done.output
    assert "whole: manifest, 4 files, the graph" in done.output
    assert "passed on cpu: 10,000 test images" in done.output
    card = (run / "export/MODEL_CARD.md").read_text()
    summary = read_json(run / "summary.json")
    assert f"accuracy **{summary['onnx_test_accuracy']:.2%}**" in card
    assert "Ankle boot" in card

    again = (run / "export/model.onnx").read_bytes()
    assert call("export.to_onnx", run, "--variants").code == 0
    assert (run / "export/model.onnx").read_bytes() == again
    # The graph is the same, so what was verified stays.
    assert read_json(run / "export/manifest.json")["verified"] is not None

    alone = shutil.copytree(run / "export", tmp_path / "elsewhere/bundle")
    # $FMNIST_DATA names another set.
    assert "Fashion-MNIST is not at hand" in call("export.verify", alone).output
    monkeypatch.delenv("FMNIST_DATA")
    before = times(alone)
    done = call("export.verify", alone)
    assert done.code == 0, done.output
    assert "no checkpoint at hand" in done.output
    assert times(alone) == before
    assert not (tmp_path / "elsewhere/summary.json").exists()

    change_graph(alone, flip_bit)
    done = call("export.verify", alone)
    assert done.code == 1
    assert "failed: files: model.onnx was changed" in done.output


@pytest.fixture
def verified(
    run: Path,
    call: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, list[str]]]:
    """Exports the run; verifies it, or what options name: the exit code and the lines printed."""
    assert call("export.to_onnx", run, "--variants").code == 0
    monkeypatch.delenv("FMNIST_DATA")

    def verify(**options: Any) -> tuple[int, list[str]]:
        given: Any = {"run": str(run), "provider": "cpu"} | options
        code = verify_main(VerifyOptions(**given))
        return code, capsys.readouterr().out.splitlines()

    return verify


def test_what_verification_says_and_leaves(
    run: Path, tmp_path: Path, verified: Callable[..., tuple[int, list[str]]]
) -> None:
    bundle = run / "export"
    code, (whole, passed, copies) = verified(provider=None)
    assert code == 0
    assert whole == "whole: manifest, 4 files, the graph, golden samples"
    results = read_json(bundle / "verify.json")
    line = next(describe_values(results))
    assert passed == line.replace("[green]", "").replace("[/]", "")
    assert copies == "no test image is a copy of a training image"
    assert results["copies"] == {"images": 0, "accuracy_without": None}
    assert results["images"] == 10_000
    assert results["onnx_accuracy"] == results["metrics"]["accuracy"]

    manifest = read_json(bundle / "manifest.json")
    assert results["sha256"] == manifest["files"]["model.onnx"]["sha256"]
    assert manifest["verified"]["onnx_accuracy"] == results["onnx_accuracy"]

    summary = read_json(run / "summary.json")
    assert summary["onnx_test_accuracy"] == results["onnx_accuracy"]
    assert summary["parity_max_abs_diff"] == results["max_abs_diff"] < results["tolerance"]
    assert summary["panel"]["parity"].endswith(f", test {results['onnx_accuracy']:.2%}")
    assert summary["seconds"]["verify"] > 0

    # On another machine, where it is only read.
    alone = shutil.copytree(bundle, tmp_path / "elsewhere/bundle")
    code, lines = verified(run=str(alone))
    assert (code, len(lines)) == (0, 3)
    assert lines[1].endswith("; no checkpoint at hand to compare with")
    assert [path.name for path in alone.parent.iterdir()] == ["bundle"]


def test_what_is_signed_stays_as_it_is(
    run: Path,
    tmp_path: Path,
    verified: Callable[..., tuple[int, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert verified()[0] == 0
    bundle = run / "export"
    private, public = new_key(tmp_path, "mine")
    sign(bundle, private)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    whole = "whole: manifest, 5 files, the graph, golden samples"
    code, lines = verified(key=public)
    assert (code, lines[0]) == (0, f"{whole}; signed by this key")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before

    with monkeypatch.context() as patch:
        patch.setattr(verification, "find_splits", lambda info, source: None)
        code, lines = verified(run=str(bundle))
    missing = "Fashion-MNIST is not at hand; name its folder with --data"
    expected = [
        f"{whole}; its signature is not checked: --key",
        f"not over the test set: {missing}",
    ]
    assert (code, lines) == (0, expected)

    code, lines = verified(key=new_key(tmp_path, "other")[1])
    assert code == 1
    assert [line.partition(":")[0] for line in lines] == ["failed"]
    assert lines[0].startswith("failed: signature: it is not of these files by this key")
