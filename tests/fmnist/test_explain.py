from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


def test_command(call: Callable[..., Any], trained: Any, tmp_path: Path) -> None:
    run = trained[0].save(tmp_path / "runs/first")
    figure = run / "figures/grad_cam.png"
    assert call("fmnist.explain", "first", "--per-class", 2).code == 0
    with Image.open(figure) as image:
        height_of_ten_rows = image.height

    picture = Image.new("RGB", (80, 60), "white")
    picture.paste("navy", (20, 10, 50, 50))
    picture.save(tmp_path / "drawn.png")
    assert call("fmnist.explain", "first", "--images", "drawn.png", "drawn.png").code == 0
    with Image.open(figure) as image:
        assert image.height < height_of_ten_rows


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("first", "--images", "words.png"), "words.png"),
        (("first", "--images", "missing.png"), "missing.png"),
        (("first", "--per-class", "0"), "per_class=0"),
        (("nowhere",), "no such folder"),
    ],
)
def test_bad_input(
    call: Callable[..., Any], trained: Any, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    trained[0].save(tmp_path / "runs/first")
    (tmp_path / "words.png").write_text("no picture")
    ended = call("fmnist.explain", *words)
    assert ended.code == 2
    assert message in ended.output
    assert ended.output.count("\n") == 1
