import json
from pathlib import Path

import pytest

from fmnist.data.origins import file_names, printable
from fmnist.errors import DataError

NAMES = ("a/1.png", "a/two\nlines.png", "b/latin-\udcff.jpg", "b/שלום.png")


def write_names(folder: Path) -> Path:
    lines = [json.dumps({"file": name, "width": 9, "height": 8}) + "\n" for name in NAMES]
    (folder / "files.jsonl").write_text("".join(lines))
    return folder


def test_names_come_in_the_order_of_the_rows_that_are_asked_for(tmp_path: Path) -> None:
    folder = write_names(tmp_path)
    assert file_names(folder, [2, 0, 2]) == [NAMES[2], NAMES[0], NAMES[2]]
    assert file_names(str(folder), range(4)) == list(NAMES)
    assert file_names(folder, []) == []


def test_a_set_that_was_not_imported_has_no_names(tmp_path: Path) -> None:
    assert file_names(tmp_path, [0]) is None


def test_nothing_behind_the_last_row_is_read(tmp_path: Path) -> None:
    """Of millions of lines, those behind could be damaged, and nobody would wait for them."""
    folder = write_names(tmp_path)
    with (folder / "files.jsonl").open("a") as file:
        file.write("no JSON\n")
    assert file_names(folder, [1]) == [NAMES[1]]
    with pytest.raises(DataError, match=r"files\.jsonl, line 5 names no file"):
        file_names(folder, [1, 4])


def test_a_list_cut_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"files\.jsonl has no line 5: it was cut short"):
        file_names(write_names(tmp_path), [0, 4, 9])


def test_what_cannot_be_shown_is_escaped() -> None:
    shown = [printable(name) for name in NAMES]
    assert shown == ["a/1.png", "a/two\\nlines.png", "b/latin-\\udcff.jpg", "b/שלום.png"]
    assert printable("gnp\u202e.exe") == "gnp\\u202e.exe"
