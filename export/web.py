"""`python -m export.web [RUN]`: write a folder for any static server, in which a browser runs the
model and asks for nothing else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console

from export.bundle.layout import find_bundle
from fmnist.cli import Positional, command


@dataclass(frozen=True, kw_only=True)
class WebOptions:
    """Make a demo for the browser: choose, drop, draw or film a picture, and see how the model
    classifies it.

    Then: python -m http.server --directory runs/NAME/web
    """

    run: Annotated[str | None, Positional] = None
    """Run folder or bundle; by default the newest run that has a bundle."""
    out: Path | None = None
    """Where to; by default web/ beside the bundle."""


def main(options: WebOptions) -> None:
    # Here: ONNX takes seconds to import, and --help does without.
    from export.demo.site import write_demo

    bundle = find_bundle(options.run)
    out = options.out or bundle.parent / "web"
    write_demo(bundle, out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"[bold]{out}[/]: {size / 1e6:.1f} MB; next: python -m http.server --directory {out}"
    )


if __name__ == "__main__":
    command(WebOptions, main)
