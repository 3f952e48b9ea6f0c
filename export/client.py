"""Predict with an exported model: `python client.py IMAGE…`.

Needs onnxruntime, numpy and Pillow, nothing else. This file lies beside model.onnx and
manifest.json; it checks the model's SHA-256 before it runs it.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from fmnist.data.image_file import MAX_PIXELS, ImageError, suffixes, unread_suffixes
from fmnist.data.picture import Fit, read_pixels, to_pixels

# This file ships alone, so what it shares with the other rooms stands here, and they import it.
INPUT = "pixels"
OUTPUTS = ("logits", "probabilities")
ABSOLUTE, RELATIVE = 1e-4, 1e-5
"""Logits of the golden samples may differ by ABSOLUTE + RELATIVE · the largest logit."""

# As in export/bundle/layout.py, which must import no ONNX Runtime; a test compares them.
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"

TOP = 3
"""Classes shown by default."""

Likeliest = list[tuple[str, float]]
"""Classes and their probabilities, the likeliest first."""


class ClientError(ValueError):
    """The bundle is not whole; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Choices:
    """What the command line says of the pictures and of the answers."""

    batch: int
    top: int
    photo: bool | None
    max_pixels: int


class Client:
    """An exported model.

    Args:
        bundle: the folder with model.onnx and manifest.json.

    Raises:
        ClientError: a file is missing, or the model is not the one of the manifest.
    """

    def __init__(self, bundle: Path) -> None:
        try:
            manifest = json.loads((bundle / MANIFEST).read_text())
            # Only the name counts: a manifest must not lead to a file outside its bundle.
            path = bundle / Path(manifest["model"]).name
            model = path.read_bytes()
            digest: str = manifest["files"][manifest["model"]]["sha256"]
            session: dict[str, bool] = manifest.get("session") or {}

            self.labels: list[str] = manifest["labels"]
            self.shape: list[int] = manifest["input"][0]["shape"][1:]
            self.fit = Fit.from_data(manifest["data"])
            check_types(self.labels, self.shape, session)
            check_shape(self.shape, self.fit)
        except OSError as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ClientError(
                f"{bundle / MANIFEST} is damaged or an older version's ({error!r}); export again"
            ) from error

        # The content that was checked is what runs: nobody can change the file in between.
        check_hash(path, model, digest)
        options = session_options(session)
        self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities (B, classes) float32 of uint8 images.

        Args:
            pixels: (B, H, W) gray, or (B, 3, H, W) colour.
        """
        return np.asarray(self.session.run([OUTPUTS[1]], {INPUT: pixels})[0])

    def pixels(self, image: Image.Image, photo: bool | None = None) -> np.ndarray:
        """One image as the model takes it, uint8 (H, W) gray or (3, H, W) colour.

        Args:
            photo: whether it is a photo of one thing on a plain ground; None decides by the data
                set: see `to_pixels`.

        Raises:
            ImageError: a photo on which nothing can be found.
        """
        return to_pixels(image, self.fit, photo)

    def top(self, image: Image.Image, count: int = TOP, photo: bool | None = None) -> Likeliest:
        """The likeliest classes of one image; `photo` as in `pixels`."""
        batch = self.pixels(image, photo)[None]
        return self.likeliest(self.probabilities(batch)[0], count)

    def likeliest(self, probabilities: np.ndarray, count: int) -> Likeliest:
        """The likeliest classes by an image's probabilities (classes,)."""
        order = np.argsort(-probabilities)[:count]
        return [(self.labels[index], float(probabilities[index])) for index in order]


def check_types(labels: Any, shape: Any, session: Any) -> None:
    """Raise TypeError unless these parts of a manifest are of use: JSON may hold anything."""
    # Types themselves, not isinstance: a bool would pass for a number.
    kinds = [{type(label) for label in labels}, {type(size) for size in shape}]
    option_kinds = {type(value) for value in session.values()}
    if kinds != [{str}, {int}] or option_kinds - {bool} or len(shape) not in (2, 3):
        raise TypeError("labels, shape or session")


def check_shape(shape: list[int], fit: Fit) -> None:
    """Raise ValueError unless pictures are fitted to the very shape that the model takes."""
    expected = [fit.height, fit.width]
    if fit.channels == 3:
        expected = [3, *expected]
    if shape != expected:
        raise ValueError(f"the model takes {shape}, its data has {expected}")


def check_hash(path: Path, content: bytes, expected: str) -> None:
    """Raise ClientError unless a file's content has the manifest's SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise ClientError(
            f"{path}: SHA-256 {digest[:12]}… is not the manifest's {expected[:12]}…; "
            "copy the bundle again, or export it again"
        )


def session_options(choice: dict[str, bool]) -> Any:
    """ONNX Runtime's options as the manifest has them; its defaults where it has none."""
    spinning = choice.get("spinning", True)
    layout = choice.get("layout", True)
    levels = ort.GraphOptimizationLevel

    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = choice.get("arena", True)
    options.enable_mem_pattern = choice.get("pattern", True)
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if layout else levels.ORT_ENABLE_EXTENDED
    )
    return options


def check(bundle: Path) -> str:
    """Compare every file with its hash, and the graph's answers with the golden samples.

    Returns:
        One line that says what was checked.

    Raises:
        ClientError: a file is missing or was changed, or the answers are not those of the exported
            model.
    """
    client = Client(bundle)
    files: dict[str, dict[str, str]] = json.loads((bundle / MANIFEST).read_text())["files"]
    for name, entry in files.items():
        path = bundle / Path(name).name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ClientError(f"{bundle} is not a whole bundle: {error}") from error

        check_hash(path, content, entry["sha256"])

    # No pickle: loading one could run any code.
    with np.load(bundle / GOLDEN, allow_pickle=False) as golden:
        pixels, expected = golden["pixels"], golden["logits"]
    logits = np.asarray(client.session.run([OUTPUTS[0]], {INPUT: pixels})[0])
    difference = float(np.abs(logits - expected).max())
    allowed = ABSOLUTE + RELATIVE * float(np.abs(expected).max())
    # Not "difference > allowed", which is false of NaN.
    if not difference <= allowed:
        raise ClientError(
            f"logits of the golden samples differ by up to {difference:.1e}; "
            f"at most {allowed:.1e} is allowed"
        )
    return (
        f"whole: {len(files)} files; "
        f"logits of {len(pixels)} golden samples differ by at most {difference:.1e}"
    )


def build_parser() -> argparse.ArgumentParser:
    """The command line of client.py, to which export.predict adds two flags.

    It is argparse, not tyro as in the other commands: the client must run where only onnxruntime,
    NumPy and Pillow are installed.
    """
    parser = argparse.ArgumentParser(
        description="Classify images with an exported model, with ONNX Runtime alone."
    )
    add = parser.add_argument
    add(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="image file of any size, or a folder of them; each is fitted to the model's input",
    )
    add("--top", type=int, default=TOP, metavar="N", help="classes to show (default: %(default)s)")
    add(
        "--photo",
        action=argparse.BooleanOptionalAction,
        help=(
            "the images are photos of one thing on a plain ground: trim, shrink, sharpen, centre "
            "and negate them as the data set was made (for a colour model: trim, shrink and "
            "centre); --no-photo: only fit them as the model's own data was; by default whichever "
            "that data needs, and nothing where an image has its very size and mode"
        ),
    )
    add("--batch", type=int, default=64, metavar="N", help="images at once (default: %(default)s)")
    add("--json", action="store_true", help="print a JSON list in place of a line for each image")
    add(
        "--max-pixels",
        type=int,
        default=MAX_PIXELS,
        metavar="N",
        help="largest picture that is unpacked, in pixels, at four bytes each (default: "
        "%(default)s)",
    )
    add(
        "--check",
        action="store_true",
        help="check every file, and the model's answers to the golden samples",
    )
    return parser


def image_files(names: Sequence[str], *, notes: bool = True) -> list[str]:
    """The files named; for a folder every image below it, in the order of their names.

    Args:
        notes: say on standard error which pictures of a folder cannot be read here.

    Raises:
        ImageError: a folder holds no image.
    """
    files: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue

        inside, left_out = pictures_below(Path(name))
        if left_out and notes:
            kinds = ", ".join(sorted({path.suffix.lower() for path in left_out}))
            count = "1 picture is" if len(left_out) == 1 else f"{len(left_out)} pictures are"
            what = f"{count} left out, since {kinds} cannot be read here"
            print(f"note: {name}: {what}", file=sys.stderr)
        if not inside:
            raise ImageError(f"image={name!r}: the folder holds no image ({', '.join(suffixes())})")
        files += [str(path) for path in inside]
    return files


TOOL_FOLDERS = ("@eadir", "__macosx")
"""Folders of thumbnails and of other things that no user has put there."""


def pictures_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The pictures in a folder that are read here, and those that are not; nothing hidden."""
    read: list[Path] = []
    unread: list[Path] = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") or part.lower() in TOOL_FOLDERS for part in parts)
        # What is no file is left out, such as a pipe, which would wait; but not a dangling link.
        if hidden or (path.exists() and not path.is_file()):
            continue
        if path.suffix.lower() in suffixes():
            read.append(path)
        elif path.suffix.lower() in unread_suffixes():
            unread.append(path)
    return read, unread


def read_files(
    client: Client, files: Sequence[str], choices: Choices
) -> list[np.ndarray | ImageError]:
    """The pixels of each file, or what is wrong with it."""
    found: list[np.ndarray | ImageError] = []
    for path in files:
        try:
            found.append(
                read_pixels(path, client.fit, photo=choices.photo, max_pixels=choices.max_pixels)
            )
        except ImageError as error:
            found.append(error)
    return found


def predict_files(
    client: Client, files: Sequence[str], choices: Choices
) -> Iterator[tuple[str, Likeliest | ImageError]]:
    """Classify image files, a batch at a time.

    Yields:
        Each file with its likeliest classes, or with what is wrong with it.
    """
    for start in range(0, len(files), choices.batch):
        names = files[start : start + choices.batch]
        found = read_files(client, names, choices)
        pixels = [one for one in found if not isinstance(one, ImageError)]
        rows = iter(client.probabilities(np.stack(pixels)) if pixels else ())

        for path, one in zip(names, found, strict=True):
            if isinstance(one, ImageError):
                yield path, one
            else:
                yield path, client.likeliest(next(rows), choices.top)


def run(bundle: Path, parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Returns:
        The exit code: 2 if an image or the bundle cannot be used.
    """
    if not options.images and not options.check:
        parser.error("name an image, or --check")
    for flag, value in (("--batch", options.batch), ("--max-pixels", options.max_pixels)):
        if value < 1:
            parser.error(f"{flag} {value}: it must be at least 1")

    choices = Choices(options.batch, options.top, options.photo, options.max_pixels)
    try:
        if options.check:
            print(check(bundle))

        client = Client(bundle)
        files = image_files(options.images)
        answers = predict_files(client, files, choices)
        failed = print_json(answers) if options.json else print_lines(answers)
    except (ClientError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # client.py … | head: the reader has enough, and Python would fail again as it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 2 if failed else 0


def print_lines(answers: Iterable[tuple[str, Likeliest | ImageError]]) -> int:
    """Print a line for each image as soon as it is classified; give the number of errors."""
    failed = 0
    for path, top in answers:
        if isinstance(top, ImageError):
            failed += 1
            # In their order, where both streams are one terminal.
            sys.stdout.flush()
            print(f"error: {top}", file=sys.stderr)
            continue
        shares = ", ".join(f"{printable(label)} {share:.1%}" for label, share in top)
        print(f"{printable(path)}: {shares}")
    return failed


def printable(name: str) -> str:
    """A name with escapes for line breaks and whatever else cannot be shown or misleads."""
    shown = (one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)
    return "".join(shown)


def print_json(answers: Iterable[tuple[str, Likeliest | ImageError]]) -> int:
    """Print all answers as one list, errors among them; give the number of errors."""
    failed = 0
    rows: list[dict[str, object]] = []
    for path, top in answers:
        if isinstance(top, ImageError):
            failed += 1
            rows.append({"image": path, "error": str(top), "kind": top.kind})
            print(f"error: {top}", file=sys.stderr)
            continue
        labelled = [{"label": label, "probability": probability} for label, probability in top]
        rows.append({"image": path, "top": labelled})
    print(json.dumps(rows, indent=1))
    return failed


if __name__ == "__main__":
    command_line = build_parser()
    sys.exit(run(Path(__file__).parent, command_line, command_line.parse_intermixed_args()))
