"""`python -m export.to_onnx [RUN…]`: export a checkpoint to RUN/export/, a bundle that describes
itself and runs anywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
from tyro.conf import arg

from export.bundle.layout import BUNDLE, MODEL
from export.providers import Provider
from fmnist.cli import Flag, Positional, Topics, command
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check
from fmnist.runs.run_folder import RUNS, find_checkpoint, run_of
from fmnist.runs.summary import stage


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Export a trained model to ONNX, with int8 and fp16 variants where they win, a manifest, a
    model card and a client.

    The graph takes uint8 pixels (batch, H, W) or (batch, 3, H, W) and gives logits and
    probabilities.
    """

    runs: Annotated[tuple[str, ...], Positional] = ()
    """Run folder or checkpoint folder; by default the newest run that has a trained model. Several
    become one graph, which averages their probabilities."""
    average_flips: Annotated[bool, Flag] = False
    """Let the graph see each image and its mirror image, and average: a little more accurate,
    and half as fast."""
    variants: tuple[Literal["int8", "fp16"], ...] = ("int8", "fp16")
    """What to try beside float32; each is published only if it is faster here and within its
    gate. --variants with nothing behind it tries none."""
    provider: Annotated[Provider | None, arg(metavar="{cpu,cuda,tensorrt}")] = None
    """Where the variants are timed; by default cuda where PyTorch finds a GPU, else cpu."""
    sign: Path | None = None
    """Sign the bundle with this private elliptic-curve key (PEM). Do it last: verification and
    the benchmark add to the bundle, and an export of the same model keeps what they added."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    """By default the data that the model was trained on: int8 needs some of its training images."""


def run_name(checkpoint: Path) -> str:
    """The run that a checkpoint folder belongs to, as `find_run` takes it."""
    run = run_of(checkpoint)
    return str(run.relative_to(RUNS)) if run.is_relative_to(RUNS) else run.name


def main(options: ExportOptions) -> None:
    # Here: PyTorch and ONNX take seconds to import, and --help does without.
    from export.bundle.signature import sign
    from export.bundle.writer import Bundled, write_bundle
    from export.graph.conversion import OPSET, to_onnx
    from export.session import default_provider
    from export.variants.samples import samples
    from export.variants.selection import try_variants
    from fmnist.training.checkpoint import load_checkpoint

    console = Console(highlight=False, soft_wrap=True)
    folders = [find_checkpoint(run) for run in options.runs or (None,)]
    members = [load_checkpoint(folder) for folder in folders]
    first = members[0]
    for folder, member in zip(folders, members, strict=True):
        check(
            member.data.sha256 == first.data.sha256,
            f"run={str(folder)!r}: it was trained on other data than {folders[0]}; "
            "only models of the same data can be averaged",
        )

    run = run_of(folders[0])
    names = [run_name(folder) for folder in folders]
    provider = options.provider or default_provider()
    # The bundle of an ensemble lies in the first member's run.
    with stage(run, "export") as summary:
        golden, calibration, judge = samples(first, options.source)
        model = to_onnx(members, options.average_flips)
        with console.status(f"trying {' and '.join(options.variants)}"):
            variants = try_variants(model, judge, calibration, options.variants, provider)
        bundled = Bundled(model, members, names, options.average_flips, golden)
        path = write_bundle(run / BUNDLE, bundled, variants)
        if options.sign:
            sign(path.parent, options.sign)
        summary["files"] = {"model": f"{BUNDLE}/{MODEL}"}

    console.print(f"[bold]{path}[/]: {path.stat().st_size / 1e6:.2f} MB, opset {OPSET}, one file")
    for variant in variants:
        console.print(f"  {variant.name}: {escape(variant.outcome())}")
    key = " --key PUBLIC_KEY" if options.sign else ""
    console.print(f"next: python -m export.verify {run}{key}")


if __name__ == "__main__":
    command(ExportOptions, main)
