"""What is wrong with a source is told all at once, and left out if the user says so."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmnist.data.importing.folder import FolderReader, read_file
from fmnist.data.importing.item import Fault, Item, LeftOut
from fmnist.errors import DataError
from tests.conftest import ROOT, Outcome
from tests.fmnist.data.importing.folders import draw, draw_classes, faults_of, open_set


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_bad_folder(folder: Path) -> None:
    """Two good classes, and one of each fault."""
    good = draw(folder / "a", 12, seed=1)
    draw(folder / "b", 12, seed=2)
    draw(folder / "few", 2, seed=3)
    Image.effect_noise((200, 200), 50).save(folder / "a/whole.jpg")
    (folder / "a/cut.jpg").write_bytes((folder / "a/whole.jpg").read_bytes()[:3000])
    (folder / "a/empty.png").touch()
    with zipfile.ZipFile(folder / "a/zip.png", "w") as archive:
        archive.write(good[0])
    (folder / "a/dangling.png").symlink_to("nowhere.png")
    Image.new("L", (3, 40)).save(folder / "b/thin.png")
    Image.new("L", (2000, 1500)).save(folder / "b/large.png")
    Image.new("L", (30, 30)).save(folder / "stray.png")
    for number in range(3):
        (folder / "phone").mkdir(exist_ok=True)
        (folder / f"phone/{number}.XYZ").write_bytes(b"a picture of an unknown kind")


EXPECTED = {
    ("cut short", "a/cut.jpg"),
    ("dangling link", "a/dangling.png"),
    ("empty", "a/empty.png"),
    ("no class", "stray.png"),
    ("too few of a class", "few"),
    ("too few of a class", "phone"),
    ("too large", "b/large.png"),
    ("too small", "b/thin.png"),
    ("unreadable", "a/zip.png"),
}


def test_all_faults_are_in_one_report(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bad_folder(tmp_path / "set")
    with pytest.raises(DataError) as raised:
        open_set(tmp_path / "set", max_pixels=1_000_000)
    said = capsys.readouterr().err

    assert set(faults_of(cache)) == EXPECTED
    message = str(raised.value)
    assert "9 faults" in message
    assert "--skip-bad" in message
    assert str(next(cache.rglob("import.json"))) in message
    assert "'few': 2 images, 2 of them different; it takes 3 to split a class" in said
    assert "'phone': none of its 3 files can be read" in said
    assert "not read: 3 .xyz ('phone/0.XYZ', 'phone/1.XYZ' and 1 more)" in said
    assert not list(cache.rglob("dataset.json"))


def test_skip_bad_goes_on_without_them(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bad_folder(tmp_path / "set")
    with pytest.raises(DataError):
        open_set(tmp_path / "set", max_pixels=1_000_000)
    capsys.readouterr()

    found = open_set(tmp_path / "set", max_pixels=1_000_000, skip_bad=True)
    assert "0 pictures read, 27 unchanged" in capsys.readouterr().err
    assert found.info.classes == ("a", "b")
    assert len(found.train) + len(found.test) == 25
    assert {(fault["kind"], fault["name"]) for fault in found.report["faults"]} == EXPECTED
    assert found.report["skip_bad"] is True

    # Who does not say so again is told again, and nothing is read for it.
    with pytest.raises(DataError, match="9 faults"):
        open_set(tmp_path / "set", max_pixels=1_000_000)
    assert "1 empty:\n  'a/empty.png': the file has 0 bytes" in capsys.readouterr().err
    # The large picture is good with a higher limit.
    assert len(open_set(tmp_path / "set", skip_bad=True).files) == 26


def test_small_classes_are_left_out_by_number(tmp_path: Path) -> None:
    draw_classes(tmp_path / "set", "ab", 12)
    draw(tmp_path / "set/few", 5, seed=9)
    found = open_set(tmp_path / "set", min_images_per_class=6)
    assert found.info.classes == ("a", "b")
    assert found.report["classes_left_out"] == {"few": 5}
    assert open_set(tmp_path / "set").info.classes == ("a", "b", "few")


def test_a_class_whose_folder_is_empty_does_not_vanish(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", "ab", 6)
    (tmp_path / "set/c/.ipynb_checkpoints").mkdir(parents=True)
    with pytest.raises(DataError, match="1 too few of a class"):
        open_set(tmp_path / "set")
    assert faults_of(cache) == [("too few of a class", "c")]
    assert "'c': there is nothing in its folder" in capsys.readouterr().err
    assert open_set(tmp_path / "set", skip_bad=True).info.classes == ("a", "b")


def test_a_float_picture_without_a_number_is_a_fault(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", "ab", 6)
    Image.fromarray(np.full((20, 20), np.nan, np.float32)).save(tmp_path / "set/a/nan.tif")
    with pytest.raises(DataError, match="1 unreadable"):
        open_set(tmp_path / "set")
    assert faults_of(cache) == [("unreadable", "a/nan.tif")]
    assert "none of its pixels is a finite number" in capsys.readouterr().err


def test_what_the_system_refused_is_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_classes(tmp_path / "set", "ab", 6)

    def refuse(path: str, stamp: str) -> bytes:
        if path.endswith("b/003.png"):
            raise PermissionError(13, "Permission denied")
        return read_file(path, stamp)

    with monkeypatch.context() as patch:
        patch.setattr("fmnist.data.importing.folder.read_file", refuse)
        with pytest.raises(DataError, match="1 unreadable"):
            open_set(tmp_path / "set")
    assert faults_of(cache) == [("unreadable", "b/003.png")]
    # Allowed now; neither the size nor the time of the file has changed.
    assert len(open_set(tmp_path / "set").files) == 12


def test_one_class_beside_a_table_that_is_not_understood(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "set/img", 6)
    (tmp_path / "set/labels.csv").write_text("where,what\nimg/000.tiff,cat\n")
    with pytest.raises(DataError, match="two or more"):
        open_set(tmp_path / "set")
    assert "not read: 1 .csv ('labels.csv')" in capsys.readouterr().err


def test_names_that_clash(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_classes(tmp_path / "set", ("Cat", "caf\u00e9", "dog"), 8)
    draw(tmp_path / "set/cat", 6, seed=8)
    draw(tmp_path / "set/cafe\u0301", 6, seed=9)
    with pytest.raises(DataError, match="2 names clash"):
        open_set(tmp_path / "set")
    # Both look the same unless they are written in ASCII.
    assert r"'cafe\u0301' differs from 'caf\xe9'" in capsys.readouterr().err
    assert set(faults_of(cache)) == {("names clash", "cat"), ("names clash", "cafe\u0301")}
    found = open_set(tmp_path / "set", skip_bad=True)
    assert found.info.classes == ("Cat", "caf\u00e9", "dog")


def test_a_class_without_training_images(tmp_path: Path, cache: Path) -> None:
    for seed, name in enumerate("abc"):
        draw(tmp_path / "set/test" / name, 4, seed=seed)
        if name != "c":
            draw(tmp_path / "set/train" / name, 8, seed=seed + 10)
    with pytest.raises(DataError):
        open_set(tmp_path / "set")
    assert faults_of(cache) == [("too few of a class", "c")]


ODD_NAMES = (
    "line\nbreak",
    "quotes'\"",
    "[bold]markup[red",
    "\u202eright to left \u05e9\u05dc\u05d5\u05dd",
    "latin \udce9",
    "x" * 255,
)


def test_odd_names_are_kept_and_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, name in enumerate(ODD_NAMES):
        draw(tmp_path / "set" / name, 4, seed=seed)
        (tmp_path / "set" / name / f"{name[:250]}.png").write_bytes(b"")
    found = open_set(tmp_path / "set", skip_bad=True)
    assert found.info.classes == tuple(sorted(ODD_NAMES))
    assert len(found.files) == 4 * len(ODD_NAMES)
    said = capsys.readouterr().err
    said.encode()
    assert "'line\\nbreak/line\\nbreak.png': the file has 0 bytes" in said
    assert "'[bold]markup[red/[bold]markup[red.png'" in said
    assert "\u202e" not in said


def test_a_folder_of_an_odd_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]\n\udce9\u202e" + "x" * 200
    draw_classes(tmp_path / name, "ab", 4)
    found = open_set(tmp_path / name)
    assert found.info.name == name
    capsys.readouterr().err.encode()


@pytest.mark.processes
def test_killed_in_the_middle_it_goes_on_with_the_same_bytes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 30)
    waiting = start_waiting(tmp_path / "set", tmp_path / "never", cache)
    waiting.kill()
    waiting.wait()
    capsys.readouterr()

    found = open_set(tmp_path / "set")
    said = capsys.readouterr().err
    taken = int(said.split(" read, ")[1].split(" unchanged")[0])
    assert taken >= 40
    with monkeypatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
        assert found.all_bytes == open_set(tmp_path / "set").all_bytes


WAITING = """
import signal, sys, time
from pathlib import Path
from fmnist.data.importing import passes, reading
from fmnist.data.sources import Source, find_data

passes.FLUSH_S = 0
gate = Path(sys.argv[2])
read = reading.PictureReader.read

def wait_at_gate(self, item, pixel_range=None):
    while item.name == "b/028.tiff" and not gate.exists():
        print("waiting", flush=True)
        time.sleep(0.05)
    return read(self, item, pixel_range)

def interrupt(number, frame):
    print("interrupted", flush=True)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
reading.PictureReader.read = wait_at_gate
print(find_data(Source(data=sys.argv[1], image_size="16")))
"""


def start_waiting(folder: Path, gate: Path, cache: Path) -> subprocess.Popen[str]:
    """Start an import that waits at one of the last pictures until the file `gate` is there.

    It has written 40 pictures then.
    """
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(folder), str(gate)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    # Those before it are written meanwhile.
    while len(list(records_of(cache))) < 40:
        assert process.poll() is None
        time.sleep(0.02)
    return process


def records_of(cache: Path) -> Iterator[str]:
    for path in cache.rglob("files.jsonl"):
        yield from path.read_text().splitlines()


@pytest.mark.processes
def test_two_imports_at_once_make_one(tmp_path: Path, cache: Path) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 30)
    gate = tmp_path / "gate"
    first = start_waiting(tmp_path / "set", gate, cache)
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    words = ["-m", "fmnist.data", "--data", str(tmp_path / "set"), "--image-size", "16"]
    second = subprocess.Popen(
        [sys.executable, *words], stderr=subprocess.PIPE, text=True, env=environment
    )
    assert second.stderr is not None
    said = second.stderr.readline()
    assert "waiting for it" in said
    gate.touch()
    first.communicate()
    assert first.returncode == 0
    rest = second.stderr.read()
    assert second.wait() == 0
    assert "read" not in rest, "the first one's result is used"
    assert len(list(tmp_path.rglob("dataset.json"))) == 1


@pytest.mark.processes
def test_interrupted_it_keeps_what_is_read(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 30)
    gate = tmp_path / "gate"
    process = start_waiting(tmp_path / "set", gate, cache)
    process.send_signal(signal.SIGINT)
    # Only then may the last picture be read: else the import could end before it is interrupted.
    assert process.stdout is not None
    assert "interrupted\n" in iter(process.stdout.readline, "")
    gate.touch()
    process.communicate()
    assert process.returncode != 0
    open_set(tmp_path / "set")
    said = capsys.readouterr().err
    assert int(said.split(" read, ")[1].split(" unchanged")[0]) >= 40


def test_a_folder_that_changes_during_the_import(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 8)
    gone, written = tmp_path / "set/a/003.png", tmp_path / "set/b/005.png"
    entries = FolderReader.entries
    passes = 0

    def change(self: FolderReader) -> Iterator[Item | Fault | LeftOut]:
        """List, and then change the folder: files are read after they are listed."""
        nonlocal passes
        passes += 1
        listed = list(entries(self))
        if passes == 3:
            gone.unlink()
            Image.new("L", (20, 30)).save(written)
        yield from listed

    monkeypatch.setattr(FolderReader, "entries", change)
    with pytest.raises(DataError, match="2 changed while it was read"):
        open_set(tmp_path / "set")
    assert faults_of(cache) == [
        ("changed while it was read", "a/003.png"),
        ("changed while it was read", "b/005.png"),
    ]
    found = open_set(tmp_path / "set")
    assert len(found.files) == 15


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_is_one_line_and_the_import_goes_on_later(
    tmp_path: Path,
    call: Callable[..., Outcome],
    monkeypatch: pytest.MonkeyPatch,
    small_disk: Path,
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 40, "RGB")
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    # Room enough by the plan, which another program then takes.
    monkeypatch.setattr("fmnist.data.importing.engine.SPARE_BYTES", 0)
    filler = small_disk / "filler"
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler.write_bytes(bytes(free - 6_000_000))
    arguments = ("fmnist.data", "--data", tmp_path / "set", "--image-size", "160")

    refused = call(*arguments)
    assert refused.code == 2
    assert "importing 80 pictures takes about 6.2 MB" in refused.output
    assert not list(small_disk.rglob("pixels"))

    monkeypatch.setattr("fmnist.data.importing.engine.RECORD_BYTES", -20_000)
    monkeypatch.setattr("fmnist.data.importing.passes.FLUSH_S", 0)
    full = call(*arguments)
    assert full.code == 2
    assert "is full; make room" in full.output
    assert full.output.splitlines()[-1].startswith("error: data=")
    assert not list(small_disk.rglob("dataset.json"))

    filler.unlink()
    done = call(*arguments)
    assert done.code == 0
    assert "80 pictures read, 0 unchanged" not in done.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_is_too_small_is_refused_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 4)
    monkeypatch.setattr("fmnist.data.importing.engine.SPARE_BYTES", 2**60)
    with pytest.raises(DataError, match=r"makes? room|make room"):
        open_set(tmp_path / "set")


def test_nothing_known_says_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "set/notes").mkdir(parents=True)
    for number in range(12):
        (tmp_path / f"set/{number:02}.TXT").write_text("text")
    with pytest.raises(DataError) as raised:
        open_set(tmp_path / "set")
    message = str(raised.value)
    assert "MNIST's four files" in message
    assert "a folder for each class" in message
    assert "'00.TXT', '01.TXT'" in message
    assert "and 3 more (12 .txt, 1 folders)" in message


def test_a_damaged_row_is_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_classes(tmp_path / "set", ("a", "b"), 8)
    (tmp_path / "set/b/bad.png").write_bytes(b"no image")
    with pytest.raises(DataError):
        open_set(tmp_path / "set")
    # A power cut may leave zeros where rows were written.
    (pixels,) = tmp_path.rglob("pixels")
    content = bytearray(pixels.read_bytes())
    content[16 + 5 * 256 : 16 + 6 * 256] = bytes(256)
    pixels.write_bytes(content)
    capsys.readouterr()

    found = open_set(tmp_path / "set", skip_bad=True)
    assert "2 pictures read, 15 unchanged" in capsys.readouterr().err
    row = np.fromfile(found.folder / "images-idx3-ubyte", np.uint8)[16 + 5 * 256 : 16 + 6 * 256]
    assert row.any()


def clip_art() -> Path:
    """Where Debian's package openclipart-png has its pictures; the test is skipped without it."""
    if shutil.which("dpkg-query") is None:
        pytest.skip("no Debian")
    words = ["dpkg-query", "--listfiles", "openclipart-png"]
    listed = subprocess.run(words, capture_output=True, text=True).stdout.splitlines()
    folders = [Path(line) for line in listed if line.endswith("/png")]
    if not folders or not folders[0].is_dir():
        pytest.skip("Debian's openclipart-png is not installed")
    return folders[0]


@pytest.mark.full
def test_debians_clip_art_with_one_command(tmp_path: Path, call: Callable[..., Outcome]) -> None:
    done = call("fmnist.data", "--data", clip_art(), "--image-size", "32", "--skip-bad")
    assert done.code == 0
    (report,) = tmp_path.rglob("import.json")
    saved = json.loads(report.read_text())
    assert saved["fault_counts"] == {"too large": 15, "too small": 3}
    assert len(saved["classes"]) == 22
    assert saved["links_counted_once"] == 695
    assert saved["copies"]["test_images_in_training"] == 0
