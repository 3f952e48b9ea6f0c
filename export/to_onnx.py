"""`python -m export.to_onnx [RUN…]`: a checkpoint becomes RUN/export/, a bundle that says what it is and runs anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import onnx
import tyro
from rich.console import Console
from rich.markup import escape

from export.bundle import Bundled, write_bundle
from export.graph import OPSET, to_onnx
from export.quantize import Variant, calibration_indices, try_variant
from export.session import Provider, default_provider
from export.sign import sign
from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.data import NOT_NAMED, Source, Split
from fmnist.errors import check
from fmnist.evaluate import held_out_split, training_sample
from fmnist.run import RUNS, find_checkpoint, run_of
from fmnist.summary import stage

GOLDEN_PER_CLASS = 2
TRAINING_SAMPLE = 20_000
PER_CLASS = 32
"""Training images of each class from which int8's ranges come."""
JUDGED = 5000
"""Images by which a variant is judged, where there are so many."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Export a trained model to ONNX, with int8 and fp16 variants where they win, a manifest, a model card and a client.

    The graph takes uint8 pixels (batch, H, W) or (batch, 3, H, W) and gives logits and probabilities.
    """

    runs: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Run folder or checkpoint folder; by default the newest run. Several become one graph, which averages what they say."""
    average_flips: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let the graph see each image and its mirror image, and average: a little more accurate, and half as fast."""
    variants: tuple[Literal["int8", "fp16"], ...] = ("int8", "fp16")
    """What to try beside float32; each is published only if it is faster here and within its gate. --variants with nothing
    behind it tries none."""
    provider: Annotated[Provider | None, tyro.conf.arg(metavar="{cpu,cuda}")] = None
    """Where the variants are timed; by default cuda where PyTorch finds a GPU, else cpu."""
    sign: Path | None = None
    """Sign the bundle with this private elliptic-curve key (PEM). Do it last: verification and the benchmark add to the bundle, and
    an export of the same model keeps what they added."""
    source: Annotated[Source, tyro.conf.arg(name="")] = NOT_NAMED
    """By default the data that the model was trained on: int8 needs some of its training images."""


def try_variants(
    model: onnx.ModelProto, judge: Split, calibration: Split, names: Sequence[str], provider: Provider
) -> list[Variant]:
    """Those asked for, published or not."""
    images, labels = judge.images.numpy(), judge.labels.numpy()
    return [try_variant(name, model, calibration.images.numpy(), images, labels, provider) for name in names]


def samples(checkpoint: Checkpoint, source: Source) -> tuple[Split, Split, Split]:
    """Golden samples, images for int8's ranges, and images to judge by: validation images, or where the model was trained on those
    too, other training images than the first two."""
    train = training_sample(checkpoint, TRAINING_SAMPLE, source)
    labels = train.labels.numpy()
    golden, calibration = (calibration_indices(labels, count) for count in (GOLDEN_PER_CLASS, GOLDEN_PER_CLASS + PER_CLASS))
    if checkpoint.config.validation_images:
        judge = held_out_split(checkpoint, "validation", source)
    else:
        judge = train.take(np.setdiff1d(np.arange(len(train)), calibration))
    return train.take(golden), train.take(np.setdiff1d(calibration, golden)), judge.take(np.arange(min(JUDGED, len(judge))))


def name_of(folder: Path) -> str:
    """The run that a checkpoint folder is of, as `find_run` takes it."""
    run = run_of(folder)
    return str(run.relative_to(RUNS)) if run.is_relative_to(RUNS) else run.name


def main(options: ExportOptions) -> None:
    console = Console(highlight=False, soft_wrap=True)
    folders = [find_checkpoint(run) for run in options.runs or (None,)]
    members = [load_checkpoint(folder) for folder in folders]
    first, run = members[0], run_of(folders[0])
    for folder, member in zip(folders, members, strict=True):
        check(member.data.sha256 == first.data.sha256, f"run={str(folder)!r}: it was trained on other data than {folders[0]}")
    with stage(run, "export"):
        golden, calibration, judge = samples(first, options.source)
        model = to_onnx(members, options.average_flips)
        with console.status(f"trying {' and '.join(options.variants)}"):
            variants = try_variants(model, judge, calibration, options.variants, options.provider or default_provider())
        bundled = Bundled(model, members, [name_of(folder) for folder in folders], options.average_flips, golden)
        path = write_bundle(run / "export", bundled, variants)
        if options.sign:
            sign(path.parent, options.sign)
    console.print(f"[bold]{path}[/]: {path.stat().st_size / 1e6:.2f} MB, opset {OPSET}, one file")
    for variant in variants:
        fate = (
            f"published, {variant.speedup['1']:.2f} times as fast at batch 1" if variant.model else f"not published: {variant.why}"
        )
        console.print(f"  {variant.name}: {escape(fate)}")
    key = " --key PUBLIC_KEY" if options.sign else ""
    console.print(f"next: python -m export.verify {run}{key}")


if __name__ == "__main__":
    command(ExportOptions, main)
