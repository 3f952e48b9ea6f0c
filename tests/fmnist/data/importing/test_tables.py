"""CSV of pixels, and of paths and labels: what was written comes back, and what is odd is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from numpy.typing import NDArray

from fmnist.data.importing.item import Item, LeftOut, ReadError
from fmnist.data.importing.readers.tables import recognise_csv
from fmnist.errors import DataError
from tests.fmnist.data.importing.conftest import Arrays
from tests.fmnist.data.importing.listed import (
    as_png,
    numbers,
    of_split,
    pixels_of,
    take_apart,
)

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}


def pixel_frame(images: NDArray[Any], labels: NDArray[Any] | None) -> pandas.DataFrame:
    """Kaggle's columns: label, pixel1, …, pixel784."""
    flat = images.reshape(len(images), -1)
    frame = pandas.DataFrame(flat, columns=[f"pixel{n}" for n in range(1, flat.shape[1] + 1)])
    if labels is not None:
        frame.insert(0, "label", labels)
    return frame


def write_both(folder: Path, arrays: Arrays, train: str, test: str) -> None:
    pixel_frame(arrays.train_images, arrays.train_labels).to_csv(folder / train, index=False)
    pixel_frame(arrays.test_images, arrays.test_labels).to_csv(folder / test, index=False)


@pytest.mark.parametrize(
    ("train_name", "test_name"),
    [("train.csv", "test.csv"), ("fashion-mnist_train.csv", "fashion-mnist_test.csv")],
)
def test_kaggle_s_pixels_come_back(
    train_name: str, test_name: str, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    write_both(tmp_path, fashion_arrays, train_name, test_name)
    reader = recognise_csv(tmp_path)
    items, faults = take_apart(reader)
    assert not faults
    trained, tested = of_split(items, "train"), of_split(items, "test")
    assert np.array_equal(pixels_of(trained), fashion_arrays.train_images)
    assert np.array_equal(pixels_of(tested), fashion_arrays.test_images)
    assert numbers(trained) == fashion_arrays.train_labels.tolist()
    assert numbers(tested) == fashion_arrays.test_labels.tolist()
    assert trained[17].name == f"{train_name}#17"
    assert reader is not None and reader.class_order() == list("0123456789")


def no_header(frame: pandas.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, header=False)


def label_last(frame: pandas.DataFrame, path: Path) -> None:
    frame[[*frame.columns[1:], "label"]].to_csv(path, index=False)


def no_header_label_last(frame: pandas.DataFrame, path: Path) -> None:
    frame[[*frame.columns[1:], "label"]].to_csv(path, index=False, header=False)


def other_name(frame: pandas.DataFrame, path: Path) -> None:
    frame.rename(columns={"label": "Garment"}).to_csv(path, index=False)


def with_index(frame: pandas.DataFrame, path: Path) -> None:
    frame.to_csv(path)


def numbered_columns(frame: pandas.DataFrame, path: Path) -> None:
    frame.set_axis(range(frame.shape[1]), axis=1).to_csv(path, index=False)


def quoted(frame: pandas.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, quoting=1, sep=";")


def windows(frame: pandas.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-16", sep="\t")


def marked(frame: pandas.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, encoding="utf-8-sig")


def floats(frame: pandas.DataFrame, path: Path) -> None:
    frame.astype(float).to_csv(path, index=False)


def unit(frame: pandas.DataFrame, path: Path) -> None:
    labels = frame.pop("label")
    scaled = frame / 255
    scaled.insert(0, "label", labels)
    scaled.to_csv(path, index=False)


@pytest.mark.parametrize(
    "write",
    [
        *(no_header, label_last, no_header_label_last, other_name, with_index, numbered_columns),
        *(quoted, windows, marked, floats, unit),
    ],
)
def test_pixels_come_back_from_any_spelling(
    write: Any, fashion_arrays: Arrays, tmp_path: Path
) -> None:
    path = tmp_path / "set.csv"
    write(pixel_frame(fashion_arrays.train_images, fashion_arrays.train_labels), path)
    items, faults = take_apart(recognise_csv(path))
    assert not faults
    assert np.array_equal(pixels_of(items), fashion_arrays.train_images)
    assert numbers(items) == fashion_arrays.train_labels.tolist()
    assert {item.split for item in items} == {None}


def test_a_label_is_found_in_sorted_rows(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """The first rows all have the label 0, as a black corner has."""
    order = np.argsort(fashion_arrays.train_labels, kind="stable")
    images, labels = fashion_arrays.train_images[order], fashion_arrays.train_labels[order]
    for write in (no_header, no_header_label_last):
        write(pixel_frame(images, labels), tmp_path / "set.csv")
        items, _ = take_apart(recognise_csv(tmp_path / "set.csv"))
        assert numbers(items) == labels.tolist()


@pytest.mark.parametrize("planar", [False, True])
def test_colour_comes_back(planar: bool, colours: NDArray[np.uint8], tmp_path: Path) -> None:
    """Pixel by pixel, or all red values before all green ones: neighbours tell."""
    written = colours.transpose(0, 3, 1, 2) if planar else colours
    labels = np.arange(40) % 4
    pixel_frame(written, labels).to_csv(tmp_path / "colours.csv", index=False)
    items, _ = take_apart(recognise_csv(tmp_path / "colours.csv"))
    assert np.array_equal(pixels_of(items), colours)
    assert numbers(items) == labels.tolist()


def test_fer2013_has_its_pixels_in_one_column(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """emotion,pixels,Usage."""
    usages = ["Training", "PublicTest", "PrivateTest"] * 40
    texts = [" ".join(map(str, image.ravel())) for image in fashion_arrays.test_images]
    labels = fashion_arrays.test_labels
    frame = pandas.DataFrame({"emotion": labels, "pixels": texts, "Usage": usages})
    frame.to_csv(tmp_path / "fer2013.csv", index=False)
    items, _ = take_apart(recognise_csv(tmp_path / "fer2013.csv"))
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images)
    assert numbers(items) == labels.tolist()
    assert [item.split for item in items[:3]] == ["train", "validation", "test"]


def test_a_test_without_labels_is_no_test_set(fashion_arrays: Arrays, tmp_path: Path) -> None:
    """Kaggle keeps the labels of test.csv; named itself, it is refused."""
    arrays = fashion_arrays
    pixel_frame(arrays.train_images, arrays.train_labels).to_csv(
        tmp_path / "train.csv", index=False
    )
    pixel_frame(arrays.test_images, None).to_csv(tmp_path / "test.csv", index=False)
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n2,0\n")

    reader = recognise_csv(tmp_path)
    assert reader is not None
    assert reader.what == (
        "Kaggle's CSV of pixels (test.csv is left out: it has no labels, so it is no test set)"
    )
    items, _ = take_apart(reader)
    assert len(of_split(items, "train")) == len(items) == 300
    left_out = [entry for entry in reader.entries() if isinstance(entry, LeftOut)]
    assert left_out == [LeftOut("not read", "test.csv", "")]
    with pytest.raises(DataError, match="it has no labels, so it is no test set"):
        recognise_csv(tmp_path / "test.csv")


def test_bad_rows_are_faults(tmp_path: Path) -> None:
    """The others are read."""
    good = "3," + ",".join(["7"] * 64)
    rows = {
        "other columns": "3,1,2",
        "no label": "," + ",".join(["7"] * 64),
        "negative label": "-1," + ",".join(["7"] * 64),
        "too bright": "3," + ",".join(["7"] * 63 + ["300"]),
        "negative": "3," + ",".join(["7"] * 63 + ["-7"]),
        "word": "3," + ",".join(["7"] * 60 + ["x"] * 4),
        "nothing": "3," + ",".join(["7"] * 60 + [""] * 4),
        "nan": "3," + ",".join(["7"] * 63 + ["nan"]),
    }
    header = "label," + ",".join(f"pixel{number}" for number in range(64))
    lines = [header, good, *rows.values(), good, ""]
    (tmp_path / "set.csv").write_text("\n".join(lines))

    items, faults = take_apart(recognise_csv(tmp_path / "set.csv"))
    assert [(fault.kind, fault.name) for fault in faults] == [
        ("unreadable", "set.csv#1"),
        ("no class", "set.csv#2"),
        ("no class", "set.csv#3"),
    ]
    bad = items[1:-1]
    assert [item.name for item in bad] == [f"set.csv#{number}" for number in range(4, 9)]
    for item in bad:
        with pytest.raises(ReadError):
            item.read()
    assert (pixels_of([items[0], items[-1]]) == 7).all()


def test_a_file_cut_short_meanwhile_is_told(fashion_arrays: Arrays, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    no_header(pixel_frame(fashion_arrays.train_images, fashion_arrays.train_labels), path)
    items, _ = take_apart(recognise_csv(path))
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ReadError) as raised:
        items[-1].read()
    assert raised.value.kind == "changed while it was read"


def test_a_million_columns_are_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"gene{number}" for number in range(10**6 + 1)) + "\n")
    with pytest.raises(DataError) as raised:
        recognise_csv(path)
    message = str(raised.value)
    assert "has 1,000,001 columns ('gene0', 'gene1'" in message and "and 999,991 more" in message
    assert len(message) < 1000


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0\0\0", b"a" * 100])
def test_what_is_no_table_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"set\.csv"):
        recognise_csv(tmp_path / "set.csv")


@pytest.fixture
def pictures(fashion_arrays: Arrays, tmp_path: Path) -> Path:
    """120 pictures in pics/ of a folder."""
    folder = tmp_path / "table"
    (folder / "pics").mkdir(parents=True)
    for number, image in enumerate(fashion_arrays.test_images):
        (folder / "pics" / f"{number}.png").write_bytes(as_png(image))
    return folder


def path_frame(arrays: Arrays) -> pandas.DataFrame:
    count = len(arrays.test_images)
    splits = [("train", "val", "test")[number % 3] for number in range(count)]
    return pandas.DataFrame(
        {
            "path": [f"pics/{number}.png" for number in range(count)],
            "label": arrays.test_labels,
            "split": splits,
        }
    )


@pytest.mark.parametrize("separator", SEPARATORS, ids=SEPARATORS.values())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_paths_and_labels_come_back(
    separator: str, encoding: str, fashion_arrays: Arrays, pictures: Path
) -> None:
    path = pictures / "set.csv"
    path_frame(fashion_arrays).to_csv(path, index=False, sep=separator, encoding=encoding)
    for named in (path, pictures):
        items, faults = take_apart(recognise_csv(named))
        assert not faults
        assert np.array_equal(pixels_of(items), fashion_arrays.test_images)
        assert numbers(items) == fashion_arrays.test_labels.tolist()
        assert [item.split for item in items[:3]] == ["train", "validation", "test"]
        assert items[17].name == "pics/17.png"


@pytest.mark.parametrize(
    ("path", "label", "split"),
    [
        ("file", "class", "set"),
        ("File Name", "Category", "Subset"),
        ("image", "target", "fold"),
        ("image_path", "class_name", "data set"),
        ("filepaths", "labels", "Phase"),
        ("Image_ID", "ClassId", "partition"),
    ],
)
def test_columns_in_any_usual_spelling(
    path: str, label: str, split: str, fashion_arrays: Arrays, pictures: Path
) -> None:
    names = {"path": path, "label": label, "split": split}
    frame = path_frame(fashion_arrays).rename(columns=names)
    frame.insert(0, "width", 28)
    frame.to_csv(pictures / "set.csv", quoting=1)
    items, faults = take_apart(recognise_csv(pictures / "set.csv"))
    assert not faults and numbers(items) == fashion_arrays.test_labels.tolist()
    assert [item.split for item in items[:3]] == ["train", "validation", "test"]


def test_paths_may_begin_in_a_folder_beside_the_table(
    fashion_arrays: Arrays, pictures: Path
) -> None:
    """Kaggle's train.csv names pictures in train_images/ without the folder."""
    frame = path_frame(fashion_arrays)
    frame["path"] = frame["path"].str.removeprefix("pics/")
    frame[["path", "label"]].to_csv(pictures / "train.csv", index=False)
    items, faults = take_apart(recognise_csv(pictures))
    assert not faults
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images)
    assert {item.split for item in items} == {"train"}


def test_names_of_classes_stay_words(pictures: Path) -> None:
    """Quoted separators, line breaks, other scripts, and what only looks like a number."""
    names = ["a,b", "two\nlines", "Ё", "1_2", "007", "-dash", "3.0"]
    rows = [{"path": f"pics/{number}.png", "label": name} for number, name in enumerate(names)]
    pandas.DataFrame(rows).to_csv(pictures / "set.csv", index=False)
    reader = recognise_csv(pictures / "set.csv")
    items, _ = take_apart(reader)
    assert [item.label for item in items] == [*names[:-1], "3"]
    assert reader is not None and reader.class_order() is None


def test_bad_paths_are_faults(pictures: Path) -> None:
    (pictures.parent / "outside.png").write_bytes(b"secret")
    (pictures / "pics" / "empty.png").touch()
    paths = [
        "pics/1.png",
        "../outside.png",
        str(pictures.parent / "outside.png"),
        "pics/none.png",
        "pics/empty.png",
        "pics",
        "",
        "pics/../../outside.png",
        "pics/" + "x" * 300,
        "pics\\2.png",
        str(pictures / "pics" / "3.png"),
    ]
    rows = [{"path": path, "label": "a"} for path in paths]
    frame = pandas.DataFrame([*rows, {"path": "pics/4.png", "label": ""}])
    frame.to_csv(pictures / "set.csv", index=False)
    items, faults = take_apart(recognise_csv(pictures / "set.csv"))
    assert [item.name for item in items] == [paths[0], *paths[-2:]]
    assert [fault.kind for fault in faults] == [
        "unreadable",
        "unreadable",
        "dangling link",
        "empty",
        "unreadable",
        "unreadable",
        "unreadable",
        "dangling link",
        "no class",
    ]
    assert len(pixels_of(items)) == 3


def test_names_in_latin_1_are_found(fashion_arrays: Arrays, pictures: Path) -> None:
    name = b"caf\xe9.png"
    (pictures / name.decode("utf-8", "surrogateescape")).write_bytes(
        as_png(fashion_arrays.test_images[0])
    )
    (pictures / "set.csv").write_bytes(b"path,label\n" + name + b",a\npics/1.png,b\n")
    items, faults = take_apart(recognise_csv(pictures / "set.csv"))
    assert not faults
    assert np.array_equal(pixels_of(items), fashion_arrays.test_images[:2])


def test_other_columns_are_named(pictures: Path) -> None:
    (pictures / "set.csv").write_text("sepal,petal,species\n1,2,setosa\n")
    with pytest.raises(DataError) as raised:
        recognise_csv(pictures / "set.csv")
    message = str(raised.value)
    assert "has 3 columns ('sepal', 'petal', 'species')" in message
    assert "a column of paths (path, " in message and "one of labels (label, " in message
    assert recognise_csv(pictures) is None


@pytest.mark.parametrize("header", ["label,split", "id,label", "label", "id,class,split,y"])
def test_labels_without_pixels_or_paths_are_refused(header: str, tmp_path: Path) -> None:
    row = ",".join("1" for _ in header.split(","))
    (tmp_path / "set.csv").write_text(f"{header}\n{row}\n")
    with pytest.raises(DataError, match=r"Looked for: a column of paths"):
        recognise_csv(tmp_path / "set.csv")


def test_an_unknown_split_is_told(pictures: Path) -> None:
    (pictures / "set.csv").write_text("path,label,split\npics/1.png,a,train\npics/2.png,b,extra\n")
    with pytest.raises(DataError, match=r"column 'split' has 'extra' in set\.csv#1"):
        take_apart(recognise_csv(pictures / "set.csv"))


def test_several_tables_need_names_that_tell_them_apart(
    fashion_arrays: Arrays, tmp_path: Path
) -> None:
    write_both(tmp_path, fashion_arrays, "one.csv", "two.csv")
    with pytest.raises(DataError, match=r"holds the tables one\.csv, two\.csv; name the file"):
        recognise_csv(tmp_path)


def test_labels_txt_names_the_classes(fashion_arrays: Arrays, tmp_path: Path) -> None:
    write_both(tmp_path, fashion_arrays, "train.csv", "test.csv")
    names = [f"garment {number}" for number in range(10)]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-16")
    reader = recognise_csv(tmp_path)
    assert reader is not None
    labels = [entry.label for entry in reader.entries() if isinstance(entry, Item)]
    expected = [*fashion_arrays.test_labels, *fashion_arrays.train_labels]
    assert labels == [names[number] for number in expected]
    assert reader.class_order() == names
