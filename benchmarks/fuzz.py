"""`python -m benchmarks.fuzz`: damaged and hostile files into everything here that reads one.

Whole files are damaged by Hypothesis, their bytes or what their JSON says; where a format guards itself by checksums (gzip, PNG,
zip) those are made right again, so that what lies behind them is reached too. Each file must be read, or refused by the one
error that commands turn into one line: no traceback, no crash, no hang, no memory out of proportion. Each reader works in a process
of its own, which cannot take others along; the file that it died of is kept. Writes docs/results/fuzz.json and .md.
"""

import faulthandler
import gzip
import io
import json
import multiprocessing
import os
import resource
import struct
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from export.bundle import MANIFEST, Bundled, write_bundle
from export.check import check_bundle
from export.client import Client, ClientError
from export.graph import to_onnx
from fmnist.checkpoint import load_checkpoint, load_state, save_checkpoint, save_state
from fmnist.cli import command
from fmnist.config import TrainConfig
from fmnist.data import SUMS_FILE, DataInfo, Split, load_info, load_test, load_train
from fmnist.device import processor
from fmnist.errors import InputError, check
from fmnist.idx import write_idx
from fmnist.models import build_model
from fmnist.photo import FORMATS, ImageError, open_image, to_pixels
from fmnist.run import WEIGHTS, environment, write_atomic, write_json

RESULTS = Path("docs/results")
FOUND = Path("runs/fuzz")
REFUSED = (InputError, ImageError, ClientError)
CHUNK = 500
"""Inputs of one run of Hypothesis, which remembers all of them."""
HANG_S = 10
MEMORY = 2 << 30
"""Bytes that a reader may map beyond those it has mapped after its first, whole file."""
SIDE = 12

Draw = st.DrawFn


@dataclass(frozen=True, slots=True)
class Target:
    """A reader, and the files that it is given."""

    what: str
    """One line: what is read, and what is damaged."""
    share: int
    """Of the inputs, in parts of all targets' shares together."""
    file: Path
    """Where a damaged file goes."""
    inputs: st.SearchStrategy[bytes]
    read: Callable[[], object]


@dataclass(slots=True)
class Row:
    """What came of a target."""

    target: str
    what: str
    inputs: int = 0
    read: int = 0
    """Inputs that were taken for whole, as some are: a pixel may have any value."""
    slowest_ms: float = 0.0
    memory_mb: float = 0.0
    """By which the process's peak grew."""
    found: str = ""


# ---------------------------------------------------------------- damage


@st.composite
def damaged(draw: Draw, whole: Sequence[bytes]) -> bytes:
    """One of the files with one to four pieces overwritten, cut out, repeated, put in or cut off, or set to a number of note."""
    content = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(1, 4))):
        size = len(content)
        # Headers are where it matters: half of the damage is there.
        at = draw(st.integers(0, min(size, 64)) if draw(st.booleans()) else st.integers(0, size))
        length = draw(st.integers(1, 16))
        match draw(st.sampled_from(("overwrite", "delete", "repeat", "insert", "cut", "number"))):
            case "overwrite":
                content[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "delete":
                del content[at : at + length]
            case "repeat":
                content[at:at] = content[at : at + length] * draw(st.integers(1, 64))
            case "insert":
                content[at:at] = draw(st.binary(max_size=16))
            case "cut":
                del content[at:]
            case _:
                number = draw(st.sampled_from((0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)))
                content[at : at + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", number)
    return bytes(content)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from((0, -1, 2**31, 2**63, 10**12, 10**400))
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(("../../x", "/dev/zero", "nan", "\x00", "9" * 5000)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@st.composite
def damaged_json(draw: Draw, whole: Sequence[str]) -> bytes:
    """One of the documents with one to three values replaced, removed, added or nested deep; or its bytes damaged."""
    text = draw(st.sampled_from(whole))
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged([text.encode()]))
    document: Any = {"": json.loads(text)}
    for _ in range(draw(st.integers(1, 3))):
        parent: Any = document
        key: Any = ""
        while isinstance(child := parent[key], dict | list) and child and draw(st.integers(0, 3)):
            keys = list(child) if isinstance(child, dict) else list(range(len(child)))
            parent, key = child, draw(st.sampled_from(keys))
        match draw(st.sampled_from(("replace", "replace", "remove", "add", "nest"))):
            case "replace":
                parent[key] = draw(ANYTHING)
            case "remove" if parent is not document:
                del parent[key]
            case "add" if isinstance(parent[key], dict):
                parent[key][draw(st.text(max_size=12))] = draw(ANYTHING)
            case "add" if isinstance(parent[key], list):
                parent[key].append(draw(ANYTHING))
            case _:
                for _ in range(draw(st.sampled_from((1, 3, 200)))):
                    parent[key] = [parent[key]]
        if not document:
            break
    return json.dumps(document[""]).encode()


def deep_json() -> bytes:
    return b"[" * 200_000


def repaired_png(content: bytes) -> bytes:
    """The CRC of every chunk made right, as far as there are chunks."""
    at, done = 8, bytearray(content[:8])
    while at + 12 <= len(content):
        length = struct.unpack(">I", content[at : at + 4])[0]
        body = content[at + 4 : at + 8 + length]
        done += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(done + content[at:])


def repaired_state(pickled: bytes, whole: bytes) -> bytes:
    """A torch.save file with another pickle in it, and the checksums of that."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(buffer, "w") as after:
        for name in before.namelist():
            after.writestr(name, pickled if name.endswith("data.pkl") else before.read(name))
    return buffer.getvalue()


# ---------------------------------------------------------------- readers


def idx_targets(folder: Path) -> dict[str, Target]:
    data = folder / "idx"
    write_data(data)
    images = data / "train-images-idx3-ubyte"
    whole = [images.read_bytes(), (data / "train-labels-idx1-ubyte").read_bytes(), many_dimensions()]

    def read() -> None:
        (data / SUMS_FILE).unlink(missing_ok=True)  # or the damage would be known by its hash
        info = load_info(data)
        load_train(data, info)
        load_test(data, info)

    packed = folder / "packed"
    write_data(packed)
    (packed / images.name).unlink()

    def read_packed() -> None:
        (packed / SUMS_FILE).unlink(missing_ok=True)
        load_train(packed, load_info(packed))

    pack = st.one_of(damaged([gzip.compress(whole[0])]), damaged(whole).map(gzip.compress))
    return {
        "idx": Target("a data set, its training images damaged", 3, images, damaged(whole), read),
        "idx.gz": Target(
            "the same in gzip: what is packed damaged, or the packing", 2, packed / f"{images.name}.gz", pack, read_packed
        ),
    }


def many_dimensions() -> bytes:
    """An IDX file whose sizes multiply to 2^64, and one byte of every dimension there can be."""
    return struct.pack(">BBBB", 0, 0, 8, 255) + struct.pack(">255I", *([2**8] * 8), *([1] * 247))


def write_data(folder: Path) -> None:
    folder.mkdir()
    source = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 20)):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", source.integers(0, 256, (count, SIDE, SIDE), np.uint8))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)


def info() -> DataInfo:
    return DataInfo("fuzz", tuple("abcdefghij"), {"train-images-idx3-ubyte": 64 * "0"}, image_size=SIDE)


def checkpoint_targets(folder: Path) -> dict[str, Target]:
    files: dict[str, Path] = {}
    whole: dict[str, dict[str, bytes]] = {}
    for name, config in {
        "airnet": TrainConfig(widths=(4, 4, 4)),
        "resnet20": TrainConfig(model="resnet20", widths=(4, 4, 4)),
        "lenet": TrainConfig(model="twoconv"),
    }.items():
        files[name] = folder / name
        save_checkpoint(files[name], build_model(config, info().problem), config, info(), {})
        whole[name] = {file: (files[name] / file).read_bytes() for file in ("config.json", WEIGHTS)}
    configs = [content["config.json"].decode() for content in whole.values()]
    header_size = struct.unpack("<Q", whole["airnet"][WEIGHTS][:8])[0]
    header, tensors = whole["airnet"][WEIGHTS][8 : 8 + header_size], whole["airnet"][WEIGHTS][8 + header_size :]

    def with_header(changed: bytes) -> bytes:
        return struct.pack("<Q", len(changed)) + changed + tensors

    weights = st.one_of(damaged([whole["airnet"][WEIGHTS]]), damaged_json([header.decode()]).map(with_header))
    state = folder / "last.pt"
    save_state(state, {"epoch": 1, "model": build_model(TrainConfig(widths=(4, 4, 4)), info().problem).state_dict(), "lr": [0.1]})
    saved = state.read_bytes()
    with zipfile.ZipFile(state) as unpacked:
        pickled = next(unpacked.read(name) for name in unpacked.namelist() if name.endswith("data.pkl"))
    states = st.one_of(damaged([saved]), damaged([pickled]).map(lambda changed: repaired_state(changed, saved)))
    config = folder / "config"
    config.mkdir()
    (config / WEIGHTS).write_bytes(whole["airnet"][WEIGHTS])
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
            files["airnet"] / WEIGHTS,
            weights,
            lambda: load_checkpoint(files["airnet"]),
        ),
        "state": Target("the state to resume from: a zip, or the pickle in it", 2, state, states, lambda: load_state(state)),
    }


def manifest_targets(folder: Path) -> dict[str, Target]:
    made = folder / "airnet"
    member = load_checkpoint(made)
    golden = Split(torch.zeros(4, SIDE, SIDE, dtype=torch.uint8), torch.arange(4))
    bundle = folder / "bundle"
    bundle.mkdir()
    write_bundle(bundle, Bundled(to_onnx([member]), [member], ["fuzz"], False, golden))
    manifest = (bundle / MANIFEST).read_text()

    def read() -> None:
        refused: Exception | None = None
        for reader in (lambda: check_bundle(bundle, "cpu"), lambda: Client(bundle)):
            try:
                reader()
            except REFUSED as error:
                refused = error
        if refused:
            raise refused

    inputs = damaged_json([manifest]) | st.builds(deep_json)
    return {"manifest": Target("a bundle's manifest.json, by verification and by the client", 3, bundle / MANIFEST, inputs, read)}


def image_targets(folder: Path) -> dict[str, Target]:
    source = np.random.default_rng(0)
    picture = Image.fromarray(source.integers(0, 256, (24, 20, 3), np.uint8))
    whole: list[bytes] = []
    modes = {
        "PNG": ("1", "L", "LA", "P", "RGBA", "I;16"),
        "GIF": ("P",),
        "PPM": ("1", "L", "RGB"),
        "TIFF": ("1", "L", "RGB", "F", "CMYK"),
    }
    for form in FORMATS:
        for mode in modes.get(form, ("L", "RGB")):
            made = picture.convert("L").convert("I;16") if mode == "I;16" else picture.convert(mode)
            for options in ({}, {"compression": "tiff_lzw"}) if form == "TIFF" and mode != "F" else ({},):
                buffer = io.BytesIO()
                made.save(buffer, form, **options)
                whole.append(buffer.getvalue())
    buffer = io.BytesIO()
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(buffer, "JPEG", exif=exif)
    file = folder / "picture"
    pngs = [content for content in whole if content[1:4] == b"PNG"]

    def read() -> None:
        image = open_image(file)
        to_pixels(image, size=28, channels=3, fit="pad")
        to_pixels(image, size=28, channels=1, fit="mnist")

    inputs = damaged([*whole, buffer.getvalue()]) | damaged(pngs).map(repaired_png)
    return {"image": Target(f"pictures ({', '.join(FORMATS)}), plainly and as photos", 4, file, inputs, read)}


def targets(folder: Path) -> dict[str, Target]:
    return idx_targets(folder) | checkpoint_targets(folder) | manifest_targets(folder) | image_targets(folder)


# ---------------------------------------------------------------- run


def work(name: str, inputs: int, seed: int, said: Connection) -> None:
    """In a process of its own: give a reader so many files, and tell how it went after each chunk."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fz", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        target = targets(Path(temporary))[name]
        faulthandler.enable()
        said.send(target.file)
        if target.file.exists():
            target.read()
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
        row, began = Row(name, target.what), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        def one(content: bytes) -> None:
            target.file.write_bytes(content)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            started = time.perf_counter()
            row.inputs += 1
            try:
                target.read()
                row.read += 1
            except REFUSED as error:
                if "\n" in str(error).strip():
                    raise AssertionError(f"more than one line: {error}") from error
            finally:
                row.slowest_ms = max(row.slowest_ms, 1e3 * (time.perf_counter() - started))
                faulthandler.cancel_dump_traceback_later()

        chunk = settings(
            max_examples=CHUNK,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much),
        )
        while row.inputs < inputs and not row.found:
            try:
                hypothesis.seed(seed + row.inputs)(chunk(given(target.inputs)(one)))()
            except Exception as error:
                row.found = f"{type(error).__name__}: {error}"[:300]
                traceback.print_exc()
            row.memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began) / 1024
            said.send(row)
        said.send(target.file.read_bytes())  # the smallest that fails, if one does


def run(name: str, inputs: int, seed: int, advance: Callable[[int], None]) -> Row:
    """Give a reader so many files; the one it fails on goes to runs/fuzz/."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(name, inputs, seed, theirs))
    process.start()
    theirs.close()
    row, file, last = Row(name, ""), None, None
    try:
        while True:
            match ours.recv():
                case Row() as told:
                    advance(told.inputs - row.inputs)
                    row = told
                case bytes() as content:
                    last = content
                case told:
                    file = told
    except EOFError:
        process.join()
    if process.exitcode:
        row.found = f"the process ended with code {process.exitcode}: a crash, or longer than {HANG_S} s"
        last = file.read_bytes() if file and file.exists() else None
    if row.found and last is not None:
        write_atomic(FOUND / name, last)
    return row


def page(rows: Sequence[Row], seed: int) -> str:
    lines = [
        "# Damaged files",
        "",
        f"`python -m benchmarks.fuzz --seed {seed}` on {processor()}, Python {environment()['versions']['python']}: "
        f"{sum(row.inputs for row in rows):,} files,",
        "each read or refused with one line.",
        "",
        "| target | files | taken for whole | slowest, ms | memory grew by, MB | found |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        cells = (
            row.target,
            f"{row.inputs:,}",
            f"{row.read / max(row.inputs, 1):.1%}",
            f"{row.slowest_ms:.0f}",
            f"{row.memory_mb:.0f}",
        )
        lines.append(f"| {' | '.join(cells)} | {row.found.splitlines()[0] if row.found else 'nothing'} |")
    return "\n".join([*lines, "", *(f"- **{row.target}**: {row.what}." for row in rows), ""])


@dataclass(frozen=True, kw_only=True)
class Options:
    """Feed damaged files to every reader, and see that each is read or refused.

    Example: python -m benchmarks.fuzz --inputs 2000 --only idx image
    """

    inputs: int = 100_000
    """Of all readers together."""
    only: tuple[str, ...] = ()
    """Readers; by default all. The results are written when all are run."""
    seed: int = 0

    def __post_init__(self) -> None:
        check(self.inputs >= 1, f"inputs={self.inputs}: it must be at least 1")


def main(options: Options) -> int:
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory() as temporary:
        known = targets(Path(temporary))
    for name in options.only:
        check(name in known, f"only={name!r}: it must be one of {', '.join(known)}")
    shares = {name: known[name].share for name in options.only or known}
    rows: list[Row] = []
    with Progress(console=console) as progress:
        task = progress.add_task("fuzzing", total=options.inputs)
        for name, share in shares.items():
            progress.update(task, description=name)
            count = -(-options.inputs * share // sum(shares.values()))
            rows.append(run(name, count, options.seed, lambda more: progress.advance(task, more)))
            console.print(f"{name}: {rows[-1].inputs:,} files, {rows[-1].found or 'nothing found'}")
    text = page(rows, options.seed)
    if not options.only:
        write_json(RESULTS / "fuzz.json", [asdict(row) for row in rows])
        write_atomic(RESULTS / "fuzz.md", text)
    console.print(text)
    if any(row.found for row in rows):
        console.print(f"the files are in {FOUND}/")
        return 1
    return 0


if __name__ == "__main__":
    command(Options, main)
