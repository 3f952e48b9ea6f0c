"""`python -m export.verify [RUN]`: check that a bundle is whole and that its graphs give the
answers they should, where they will run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape
from tyro.conf import arg

from export.bundle.layout import find_bundle
from export.providers import Provider
from fmnist.cli import Positional, Topics, command
from fmnist.data.sources import NOT_NAMED, Source


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Verify an exported bundle: the bundle itself anywhere; over the whole test set where the
    data is at hand; and against the checkpoint where that is. Exit 1 if it fails."""

    run: Annotated[str | None, Positional] = None
    """Run folder or bundle; by default the newest run that has a bundle."""
    provider: Annotated[Provider | None, arg(metavar="{cpu,cuda,tensorrt}")] = None
    """Where ONNX Runtime runs; by default cuda where PyTorch finds a GPU, else cpu. Never falls
    back to another."""
    key: Path | None = None
    """Public elliptic-curve key (PEM) by which the bundle must be signed."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    """By default the data that the model was trained on."""


def main(options: VerifyOptions) -> int:
    # Here: PyTorch and ONNX take seconds to import, and --help does without.
    from export.bundle.integrity import VerificationError
    from export.bundle.verification import verify_bundle
    from export.session import default_provider

    console = Console(highlight=False, soft_wrap=True)
    bundle = find_bundle(options.run)
    provider = options.provider or default_provider()
    try:
        verify_bundle(bundle, provider, options.key, options.source, console)
    except VerificationError as error:
        console.print(f"[red]failed:[/] {escape(str(error))}")
        return 1
    return 0


if __name__ == "__main__":
    command(VerifyOptions, main)
