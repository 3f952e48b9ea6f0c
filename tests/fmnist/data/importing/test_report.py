"""The report of an import: counts, the first ten of each kind, and the whole list in the file."""

import json
from pathlib import Path

from rich.console import Console

from fmnist.data.importing.item import Fault, LeftOut
from fmnist.data.importing.report import (
    Report,
    imbalance_note,
    not_read_note,
    print_faults,
    read_notes,
    suffix_of,
)
from fmnist.data.importing.words import shown


def write_report(folder: Path) -> Report:
    report = Report(folder)
    for number in range(12):
        report.add(Fault("empty", f"a/{number}\n.png", "the file has 0 bytes"))
    report.add(Fault("too few of a class", "[b]", "1 image"))
    report.leave_out(LeftOut("link", "a/link.png", "a"))
    for name in ("a/1.HEICS", "a/2.heics", "a/readme", "a/img.0001", "a/img.0002"):
        report.leave_out(LeftOut("not read", name, "a"))
    return report


def test_the_file_has_the_whole_list(tmp_path: Path) -> None:
    report = write_report(tmp_path)
    report.facts["source"] = "photos"
    report.notes.append("a note")
    path = report.write(tmp_path)
    saved = json.loads(path.read_text())
    assert saved["source"] == "photos"
    assert saved["fault_counts"] == {"empty": 12, "too few of a class": 1}
    assert len(saved["faults"]) == 13
    assert saved["faults"][0] == {
        "kind": "empty", "name": "a/0\n.png", "detail": "the file has 0 bytes"
    }  # fmt: skip
    assert saved["links_counted_once"] == 1
    assert saved["not_read"] == {".heics": 2, "of other suffixes": 2, "without a suffix": 1}
    assert len(saved["left_out"]) == 6

    # Written once more, as after a refusal, it is the same.
    assert json.loads(report.write(tmp_path).read_text()) == saved
    assert read_notes(path) == [
        "a note",
        f"imported without 13 faults (12 empty, 1 too few of a class): see {path}",
    ]


def test_an_empty_report_is_json(tmp_path: Path) -> None:
    saved = json.loads(Report(tmp_path).write(tmp_path).read_text())
    assert (saved["faults"], saved["left_out"], saved["notes"]) == ([], [], [])


def test_ten_of_each_kind_are_printed(tmp_path: Path) -> None:
    report = write_report(tmp_path)
    console = Console(record=True, width=200, soft_wrap=True, file=(tmp_path / "out").open("w"))
    print_faults(dict(report.faults.counts), report.faults.first, console)
    lines = console.export_text().splitlines()
    assert lines[0] == "12 empty:"
    assert lines[1] == "  'a/0\\n.png': the file has 0 bytes"
    assert lines[10:13] == [
        "  'a/9\\n.png': the file has 0 bytes",
        "  and 2 more",
        "1 too few of a class:",
    ]
    assert lines[13] == "  '[b]': 1 image"


def test_what_was_not_read_is_named(tmp_path: Path) -> None:
    assert not_read_note(Report(tmp_path)) is None
    assert not_read_note(write_report(tmp_path)) == (
        "not read: 2 .heics ('a/1.HEICS', 'a/2.heics'), "
        "2 of other suffixes ('a/img.0001', 'a/img.0002'), 1 without a suffix ('a/readme')"
    )


def test_numbers_are_no_suffix() -> None:
    assert suffix_of("a/B.JPG") == ".jpg"
    assert suffix_of("scan.0042") == "of other suffixes"
    assert suffix_of("a.b/scan") == "without a suffix"


def test_imbalance_is_told_from_ten_to_one() -> None:
    assert imbalance_note({"a": 99, "b": 10}) is None
    note = imbalance_note({"a": 100, "b": 10, "c": 50})
    assert note is not None
    assert "'a' has 100 training images, 'b' 10 (10 : 1)" in note


def test_names_are_shown_without_what_a_terminal_obeys() -> None:
    assert shown("a\nb\x1b[31m\u202e\udce9") == "'a\\nb\\x1b[31m\\u202e\\udce9'"
    assert len(shown("x" * 255)) == 121
