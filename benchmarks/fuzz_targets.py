"""Everything here that reads a file, for benchmarks.fuzz: what it is given, how it is called."""

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from benchmarks.damage import (
    damaged,
    damaged_json,
    deep_json,
    many_dimensions,
    repaired_png,
    repaired_state,
)
from export.bundle.integrity import check_bundle
from export.bundle.layout import MANIFEST
from export.bundle.writer import Bundled, write_bundle
from export.client import Client, ClientError
from export.graph.conversion import to_onnx
from fmnist.config import TrainConfig
from fmnist.data.dataset import Split, load_info, load_test, load_train
from fmnist.data.formats import SUMS_FILE
from fmnist.data.idx import write_idx
from fmnist.data.image_file import ImageError, formats, open_image
from fmnist.data.info import DataInfo
from fmnist.data.picture import Fit, to_pixels
from fmnist.errors import InputError
from fmnist.models import build_model
from fmnist.runs.run_folder import WEIGHTS
from fmnist.training.checkpoint import load_checkpoint, load_state, save_checkpoint, save_state

REFUSED = (InputError, ImageError, ClientError)
"""Errors that commands turn into one line."""
SIDE = 12
TINY = (4, 4, 4)
"""Widths of networks."""
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGBA", "I;16"),
    "GIF": ("P",),
    "PPM": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "RGB", "F", "CMYK"),
}
"""Kinds of pixels by format; gray and colour for the others."""
EXIF_ORIENTATION = 0x0112
FITS = (
    Fit(28, 28, 3, "pad", "edge"),
    Fit(9, 40, 1, "crop", "mean", (0, 4095)),
    Fit(28, 28, 1, "mnist"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """A reader, and the files that it is given."""

    what: str
    """One line: what is read, and what is damaged."""
    share: int
    """Part of the inputs, in parts of all targets' shares together."""
    file: Path
    """The file that is replaced by a damaged one."""
    inputs: st.SearchStrategy[bytes]
    read: Callable[[], object]


def make_targets(folder: Path) -> dict[str, Target]:
    """Every reader, with whole files in a folder."""
    pictures = image_target(folder)
    return {
        **idx_targets(folder),
        **checkpoint_targets(folder),
        "manifest": manifest_target(folder),
        "image": pictures,
    }


def idx_targets(folder: Path) -> dict[str, Target]:
    data = folder / "idx"
    write_data(data)
    images = data / "train-images-idx3-ubyte"
    labels = data / "train-labels-idx1-ubyte"
    whole = [images.read_bytes(), labels.read_bytes(), many_dimensions()]
    packed = folder / "packed"
    write_data(packed)
    (packed / images.name).unlink()

    def read() -> None:
        # Without the sums, or the damage would be known by its hash.
        (data / SUMS_FILE).unlink(missing_ok=True)
        info = load_info(data)
        load_train(data, info)
        load_test(data, info)

    def read_packed() -> None:
        (packed / SUMS_FILE).unlink(missing_ok=True)
        load_train(packed, load_info(packed))

    packing = damaged([gzip.compress(whole[0])])
    content = damaged(whole).map(gzip.compress)
    return {
        "idx": Target("a data set, its training images damaged", 3, images, damaged(whole), read),
        "idx.gz": Target(
            "the same in gzip: what is packed damaged, or the packing",
            2,
            packed / f"{images.name}.gz",
            st.one_of(packing, content),
            read_packed,
        ),
    }


def write_data(folder: Path) -> None:
    folder.mkdir()
    source = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 20)):
        images = source.integers(0, 256, (count, SIDE, SIDE), np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)


def data_info() -> DataInfo:
    sha256 = {"train-images-idx3-ubyte": 64 * "0"}
    return DataInfo("fuzz", tuple("abcdefghij"), sha256, image_size=(SIDE, SIDE))


def write_checkpoints(folder: Path) -> list[Path]:
    """Write a checkpoint of each of three networks, that of airnet first."""
    configs = {
        "airnet": TrainConfig(widths=TINY),
        "resnet20": TrainConfig(model="resnet20", widths=TINY),
        "twoconv": TrainConfig(model="twoconv"),
    }

    for name, config in configs.items():
        model = build_model(config, data_info().problem)
        save_checkpoint(folder / name, model, config, data_info(), {})

    return [folder / name for name in configs]


def checkpoint_targets(folder: Path) -> dict[str, Target]:
    checkpoints = write_checkpoints(folder)
    airnet = checkpoints[0]
    whole_weights = (airnet / WEIGHTS).read_bytes()
    config = folder / "config"
    config.mkdir()
    (config / WEIGHTS).write_bytes(whole_weights)
    configs = [(checkpoint / "config.json").read_text() for checkpoint in checkpoints]

    # safetensors: the header's length, the header in JSON, the numbers.
    (header_size,) = struct.unpack("<Q", whole_weights[:8])
    header, tensors = whole_weights[8 : 8 + header_size], whole_weights[8 + header_size :]

    def with_header(changed: bytes) -> bytes:
        return struct.pack("<Q", len(changed)) + changed + tensors

    headers = damaged_json([header.decode()]).map(with_header)
    return {
        "config": Target(
            "config.json of a checkpoint, then the network it describes",
            4,
            config / "config.json",
            damaged_json(configs) | st.builds(deep_json),
            lambda: load_checkpoint(config),
        ),
        "weights": Target(
            "a checkpoint's safetensors, its header or its bytes",
            2,
            airnet / WEIGHTS,
            st.one_of(damaged([whole_weights]), headers),
            lambda: load_checkpoint(airnet),
        ),
        "state": state_target(folder),
    }


def state_target(folder: Path) -> Target:
    file = folder / "last.pt"
    model = build_model(TrainConfig(widths=TINY), data_info().problem)
    save_state(file, {"epoch": 1, "model": model.state_dict(), "lr": [0.1]})
    whole = file.read_bytes()

    with zipfile.ZipFile(file) as unpacked:
        (name,) = [name for name in unpacked.namelist() if name.endswith("data.pkl")]
        pickled = unpacked.read(name)

    repaired = damaged([pickled]).map(lambda changed: repaired_state(changed, whole))
    return Target(
        "the state to resume from: a zip, or the pickle in it",
        2,
        file,
        st.one_of(damaged([whole]), repaired),
        lambda: load_state(file),
    )


def manifest_target(folder: Path) -> Target:
    """Needs the checkpoints in the folder."""
    member = load_checkpoint(folder / "airnet")
    golden = Split(torch.zeros(4, SIDE, SIDE, dtype=torch.uint8), torch.arange(4))
    bundle = folder / "bundle"
    bundle.mkdir()
    write_bundle(bundle, Bundled(to_onnx([member]), [member], ["fuzz"], False, golden))
    manifest = (bundle / MANIFEST).read_text()

    def read() -> None:
        # Both readers must refuse in order, whichever comes first.
        refused: Exception | None = None
        for reader in (lambda: check_bundle(bundle, "cpu"), lambda: Client(bundle)):
            try:
                reader()
            except REFUSED as error:
                refused = error

        if refused:
            raise refused

    return Target(
        "a bundle's manifest.json, by verification and by the client",
        3,
        bundle / MANIFEST,
        damaged_json([manifest]) | st.builds(deep_json),
        read,
    )


def whole_pictures() -> list[bytes]:
    """A small picture in every format and kind of pixels that is read."""
    source = np.random.default_rng(0)
    picture = Image.fromarray(source.integers(0, 256, (24, 20, 3), np.uint8))
    whole: list[bytes] = []

    def save(image: Image.Image, form: str, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        whole.append(buffer.getvalue())

    for form in formats():
        for mode in MODES.get(form, ("L", "RGB")):
            # Colour cannot become 16 bits at once.
            image = picture.convert("L") if mode == "I;16" else picture
            save(image.convert(mode), form)
            if form == "TIFF" and mode != "F":
                save(image.convert(mode), form, compression="tiff_lzw")

    exif = picture.getexif()
    exif[EXIF_ORIENTATION] = 6
    save(picture, "JPEG", exif=exif)
    return whole


def image_target(folder: Path) -> Target:
    file = folder / "picture"
    whole = whole_pictures()
    pngs = [content for content in whole if content[1:4] == b"PNG"]

    def read() -> None:
        for fit in FITS:
            image = open_image(file, reduce_to=fit.reduce_to())
            to_pixels(image, fit)

    return Target(
        f"pictures ({', '.join(formats())}), plainly and as photos",
        4,
        file,
        damaged(whole) | damaged(pngs).map(repaired_png),
        read,
    )
