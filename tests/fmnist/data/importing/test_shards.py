"""Tars in WebDataset's form: what was written comes back, and what is odd is told."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmnist.data.importing.item import ReadError
from fmnist.data.importing.readers.shards import recognise_shards
from fmnist.errors import DataError
from tests.fmnist.data.importing.conftest import Arrays
from tests.fmnist.data.importing.listed import (
    as_png,
    numbers,
    of_split,
    pixels_of,
    take_apart,
)


def write_tar(path: Path, files: Iterable[tuple[str, bytes]], mode: Any = "w") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def samples(images: Any, labels: Any, kind: str = "cls") -> Iterable[tuple[str, bytes]]:
    """The files of each sample, in the order of their names, as WebDataset writes them."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        key = f"{number:06}"
        texts = {
            "cls": str(label),
            "json": json.dumps({"label": int(label), "width": 28}),
            "txt": f"garment {label}\n",
        }
        parts = [(f"{key}.{kind}", texts[kind].encode()), (f"{key}.png", as_png(image))]
        yield from sorted(parts)


def write_shards(folder: Path, arrays: Arrays) -> None:
    """Two shards of each split."""
    for split, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        half = len(images) // 2
        write_tar(folder / f"fashion-{split}-000000.tar", samples(images[:half], labels[:half]))
        write_tar(folder / f"fashion-{split}-000001.tar", samples(images[half:], labels[half:]))


def test_shards_come_back(fashion_arrays: Arrays, tmp_path: Path) -> None:
    write_shards(tmp_path, fashion_arrays)
    reader = recognise_shards(tmp_path)
    items, faults = take_apart(reader)
    trained, tested = of_split(items, "train"), of_split(items, "test")
    assert not faults and len(items) == 420
    assert np.array_equal(pixels_of(trained), fashion_arrays.train_images)
    assert np.array_equal(pixels_of(tested), fashion_arrays.test_images)
    assert numbers(trained) == fashion_arrays.train_labels.tolist()
    assert numbers(tested) == fashion_arrays.test_labels.tolist()
    assert trained[17].name == "fashion-train-000000.tar/000017.png"
    assert reader is not None and reader.class_order() == list("0123456789")
    assert reader.what == "4 tars in WebDataset's form"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kind", ["cls", "json", "txt"])
def test_one_tar_packed_or_not(
    mode: str, kind: str, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    """Its content tells what it is, whatever its name."""
    path = tmp_path / "download"
    labels = fashion_arrays.test_labels
    write_tar(path, samples(fashion_arrays.test_images, labels, kind), mode)
    items, faults = take_apart(recognise_shards(path))
    assert not faults
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images)
    expected = [f"garment {number}" if kind == "txt" else str(number) for number in labels]
    assert [item.label for item in items] == expected
    assert {item.split for item in items} == {None}


def test_splits_may_be_folders(fashion_arrays: Arrays, tmp_path: Path) -> None:
    for split in ("train", "val"):
        files = samples(fashion_arrays.test_images, fashion_arrays.test_labels)
        write_tar(tmp_path / split / "00000.tar", files)
    items, _ = take_apart(recognise_shards(tmp_path))
    assert len(of_split(items, "train")) == len(of_split(items, "validation")) == 120


def test_keys_end_at_the_first_dot(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """Masks and hidden files beside a picture are not taken for it."""
    one, other = as_png(fashion_arrays.test_images[0]), as_png(fashion_arrays.test_images[1])
    files = [
        ("a/._x.png", b"hidden"),
        ("a/x.cls", b"4\n"),
        ("a/x.mask.png", other),
        ("a/x.PNG", one),
        ("b/x.png", other),
        ("b/x.cls", b"5"),
    ]
    write_tar(tmp_path / "a.tar", files)
    items, faults = take_apart(recognise_shards(tmp_path / "a.tar"))
    assert not faults
    assert [(item.name, item.label) for item in items] == [
        ("a.tar/a/x.PNG", "4"),
        ("a.tar/b/x.png", "5"),
    ]
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images[:2])


def test_bad_samples_are_faults(fashion_arrays: Arrays, tmp_path: Path) -> None:
    image = as_png(fashion_arrays.test_images[0])
    files = [
        ("good.png", image),
        ("good.cls", b"1"),
        ("alone.png", image),
        ("nothing.cls", b"1"),
        ("empty.png", b""),
        ("empty.cls", b"1"),
        ("negative.png", image),
        ("negative.cls", b"-1"),
        ("broken.png", image),
        ("broken.json", b"{" * 100_000),
        ("other.png", image),
        ("other.json", b'{"caption": "a shoe"}'),
    ]
    write_tar(tmp_path / "a.tar", files)
    items, faults = take_apart(recognise_shards(tmp_path))
    assert [item.name for item in items] == ["a.tar/good.png"]
    assert [(fault.kind, fault.name) for fault in faults] == [
        ("no class", "a.tar/alone.png"),
        ("unreadable", "a.tar/nothing"),
        ("empty", "a.tar/empty.png"),
        ("no class", "a.tar/negative.png"),
        ("no class", "a.tar/broken.png"),
        ("no class", "a.tar/other.png"),
    ]


def test_names_that_lead_out_write_nothing(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """Members are read where they stand: no name is a path of this machine. Links are faults."""
    image = as_png(fashion_arrays.test_images[0])
    folder = tmp_path / "set"
    files = [("../../evil.png", image), ("../../evil.cls", b"1"), ("/etc/x.png", image)]
    write_tar(folder / "a.tar", [*files, ("/etc/x.cls", b"2")])
    with tarfile.open(folder / "a.tar", "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)

    items, faults = take_apart(recognise_shards(folder))
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images[[0, 0]])
    assert [item.label for item in items] == ["1", "2"]
    assert [(fault.kind, fault.name) for fault in faults] == [("unreadable", "a.tar/link.png")]
    assert list(tmp_path.rglob("*")) == [folder, folder / "a.tar"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_shard_cut_short(mode: str, fashion_arrays: Arrays, tmp_path: Path) -> None:
    """What comes before the cut is read if it can be, and so are the other shards."""
    files = list(samples(fashion_arrays.test_images, fashion_arrays.test_labels))
    write_tar(tmp_path / "train-0.tar", files)
    cut = tmp_path / "train-1.tar"
    write_tar(cut, files, mode)
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) * 2 // 3])

    items, faults = take_apart(recognise_shards(tmp_path))
    assert {fault.kind for fault in faults} <= {"cut short", "no class", "unreadable"}
    assert "cut short" in {fault.kind for fault in faults}
    assert all(fault.name.startswith("train-1.tar") for fault in faults)
    assert len(items) > 150 if mode == "w" else len(items) == 120
    expected = np.concatenate([fashion_arrays.test_images] * 2)[: len(items)]
    assert np.array_equal(pixels_of(items), expected)


def test_damaged_headers_are_a_fault(fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, samples(fashion_arrays.test_images, fashion_arrays.test_labels))
    with tarfile.open(path) as archive:
        damaged_at = archive.getmembers()[100].offset
    content = bytearray(path.read_bytes())
    content[damaged_at : damaged_at + 512] = b"\xaa" * 512
    path.write_bytes(content)
    items, faults = take_apart(recognise_shards(path))
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images[:50])
    assert [(fault.kind, fault.name) for fault in faults] == [("cut short", "a.tar")]


def test_a_tar_that_was_written_to_meanwhile(fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, samples(fashion_arrays.test_images, fashion_arrays.test_labels))
    items, _ = take_apart(recognise_shards(path))
    write_tar(path, samples(fashion_arrays.test_images[:9], fashion_arrays.test_labels[:9]))
    with pytest.raises(ReadError) as raised:
        items[0].read()
    assert raised.value.kind == "changed while it was read"


def test_a_tar_of_class_folders_is_to_be_unpacked(fashion_arrays: Arrays, tmp_path: Path) -> None:
    image = as_png(fashion_arrays.test_images[0])
    write_tar(tmp_path / "pets.tar.gz", [("pets/cat/1.png", image)], "w:gz")
    with pytest.raises(DataError, match="If its folders are the classes, unpack it"):
        recognise_shards(tmp_path / "pets.tar.gz")


def test_what_is_no_tar_is_told(tmp_path: Path) -> None:
    contents = {"empty": b"", "text": b"hello" * 500, "gzip": b"\x1f\x8bx", "zeros": bytes(10240)}
    for name, content in contents.items():
        path = tmp_path / f"{name}.tar"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.tar") as raised:
            recognise_shards(path)
        assert "\n" not in str(raised.value)

    (tmp_path / "z.tar").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(100))
    with pytest.raises(DataError, match="unpack it first: zstd -d"):
        recognise_shards(tmp_path / "z.tar")


def test_a_tar_beside_the_folders_it_came_from_is_left(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_tar(tmp_path / "images.tar", [("images/1.png", b"x")])
    assert recognise_shards(tmp_path) is None


def test_a_listing_is_remembered_in_parts(
    fashion_arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two listings at once, and one that was given up, do not disturb what is remembered."""
    monkeypatch.setattr("fmnist.data.importing.readers.shards.REMEMBERED_AT_ONCE", 7)
    write_shards(tmp_path, fashion_arrays)
    reader = recognise_shards(tmp_path)
    assert reader is not None
    given_up = reader.entries()
    for _ in range(20):
        next(given_up)
    pairs = list(zip(reader.entries(), reader.entries(), strict=True))
    again = list(reader.entries())
    assert [one.name for one, _ in pairs] == [other.name for _, other in pairs]
    assert [one.name for one, _ in pairs] == [entry.name for entry in again]
    items, _ = take_apart(reader)
    assert np.array_equal(pixels_of(of_split(items, "train")), fashion_arrays.train_images)
