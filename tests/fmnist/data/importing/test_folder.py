"""A folder of pictures: its classes and splits, and what is left out of it."""

import os
import tracemalloc
from pathlib import Path

import pytest

from fmnist.data.importing.folder import FolderReader, recognise_folder
from fmnist.data.importing.item import Entry, Fault, Item, LeftOut, ReadError


def touch(folder: Path, *names: str) -> None:
    """Write files of one byte."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def list_folder(folder: Path) -> list[Entry]:
    return list(FolderReader(folder).entries())


def placed(folder: Path) -> list[tuple[str, str, str | None]]:
    """Name, class and split of each picture."""
    items = [entry for entry in list_folder(folder) if isinstance(entry, Item)]
    return [(item.name, item.label, item.split) for item in items]


def test_classes_at_any_depth_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.PNG", "b/deep/er/1.jpg", "a/1.png", "b/10.png")
    assert placed(tmp_path) == [
        ("a/1.png", "a", None),
        ("b/10.png", "b", None),
        ("b/2.PNG", "b", None),
        ("b/deep/er/1.jpg", "b", None),
    ]


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Training", "Valid", "TESTING"), ("TRAIN", "validation", "Test")],
)
def test_splits_in_any_case(tmp_path: Path, train: str, validation: str, test: str) -> None:
    touch(tmp_path, f"{train}/a/1.png", f"{validation}/a/2.png", f"{test}/a/deep/3.png")
    found = {(label, split) for _, label, split in placed(tmp_path)}
    assert found == {("a", "train"), ("a", "validation"), ("a", "test")}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "bus/1.png", "car/1.png")
    assert [label for _, label, _ in placed(tmp_path)] == ["bus", "car", "train"]


def test_a_training_split_alone(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png")
    assert placed(tmp_path) == [("train/a/1.png", "a", "train"), ("train/b/1.png", "b", "train")]


def test_hidden_and_tool_folders_are_left_out_at_any_depth(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/.hidden.png", "a/._1.png", "a/.ipynb_checkpoints/1.png")
    touch(tmp_path, "a/deep/@eaDir/1.png", "__MACOSX/a/1.png", ".DS_Store", "a/Thumbs.db")
    assert [entry.name for entry in list_folder(tmp_path)] == ["a/1.png"]


def test_pictures_in_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "train/2.png", "train/a/3.png", "test/a/4.png", "other/b/5.png")
    faults = [entry for entry in list_folder(tmp_path) if isinstance(entry, Fault)]
    assert [(fault.kind, fault.name) for fault in faults] == [
        ("no class", "1.png"),
        ("no class", "other/b/5.png"),
        ("no class", "train/2.png"),
    ]


def test_other_suffixes_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.HEICS", "a/notes.txt")
    os.mkfifo(tmp_path / "a/pipe.png")
    left = [entry for entry in list_folder(tmp_path) if isinstance(entry, LeftOut)]
    assert [(entry.kind, entry.name, entry.label) for entry in left] == [
        ("not read", "a/2.HEICS", "a"),
        ("not read", "a/notes.txt", "a"),
        ("not read", "a/pipe.png", "a"),
    ]


def test_a_link_within_its_class_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "set", "a/1.png", "a/deep/2.png", "b/3.png")
    touch(tmp_path / "elsewhere", "4.png", "more/5.png")
    source = tmp_path / "set"
    (source / "a/again.png").symlink_to("1.png")
    (source / "a/folder").symlink_to("deep")
    (source / "b/other.png").symlink_to("../a/1.png")
    (source / "b/from outside.png").symlink_to(tmp_path / "elsewhere/4.png")
    (source / "b/from outside too.png").symlink_to(tmp_path / "elsewhere/4.png")
    (source / "b/more").symlink_to(tmp_path / "elsewhere/more")

    entries = list_folder(source)
    assert [entry.name for entry in entries if isinstance(entry, LeftOut)] == [
        "a/again.png",
        "a/folder/2.png",
        "b/from outside.png",
    ]
    assert [name for name, _, _ in placed(source)] == [
        "a/1.png",
        "a/deep/2.png",
        "b/3.png",
        "b/from outside too.png",
        "b/more/5.png",
        "b/other.png",
    ]


def test_links_that_lead_nowhere_and_round_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    (tmp_path / "a/nowhere.png").symlink_to("gone.png")
    (tmp_path / "a/self.png").symlink_to("self.png")
    (tmp_path / "a/up").symlink_to("..")
    faults = [entry for entry in list_folder(tmp_path) if isinstance(entry, Fault)]
    assert [(fault.kind, fault.name) for fault in faults] == [
        ("dangling link", "a/nowhere.png"),
        ("dangling link", "a/self.png"),
        ("dangling link", "a/up"),
    ]
    assert "'gone.png' is not there" in faults[0].detail
    assert "a folder above it" in faults[2].detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b").chmod(0)
    (fault,) = [entry for entry in list_folder(tmp_path) if isinstance(entry, Fault)]
    (tmp_path / "b").chmod(0o755)
    assert (fault.kind, fault.name) == ("unreadable", "b")


def test_a_file_is_read_only_as_it_was_listed(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/2.png", "a/3.png")
    one, two, three = (entry for entry in list_folder(tmp_path) if isinstance(entry, Item))
    assert one.read() == b"x"
    (tmp_path / "a/2.png").write_bytes(b"another")
    with pytest.raises(ReadError, match="written to"):
        two.read()
    (tmp_path / "a/3.png").unlink()
    with pytest.raises(ReadError, match="gone"):
        three.read()


def test_a_class_with_nothing_in_its_folder_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "test/a/2.png", "test/b/.hidden/3.png", "test/c/notes.txt")
    (tmp_path / "train/d/deep").mkdir(parents=True)
    nothing = [entry for entry in list_folder(tmp_path) if isinstance(entry, LeftOut)]
    assert nothing == [
        LeftOut("empty folder", "test/b", "b"),
        LeftOut("not read", "test/c/notes.txt", "c"),
        LeftOut("empty folder", "train/d", "d"),
    ]


def test_a_folder_is_recognised_by_pictures_in_its_subfolders(tmp_path: Path) -> None:
    (tmp_path / "set/a").mkdir(parents=True)
    assert recognise_folder(tmp_path / "set") is None
    touch(tmp_path, "set/1.png", "set/a/notes.txt", "file.png")
    assert recognise_folder(tmp_path / "set") is None
    assert recognise_folder(tmp_path / "file.png") is None
    touch(tmp_path, "set/a/1.heics")
    assert recognise_folder(tmp_path / "set") is not None


def test_many_files_take_little_memory(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).mkdir()
        for number in range(1000):
            (tmp_path / name / f"{number}.png").touch()

    tracemalloc.start()
    count = sum(1 for _ in FolderReader(tmp_path).entries())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 5000
    # The names of one folder, and nothing of the others.
    assert peak < 400_000
