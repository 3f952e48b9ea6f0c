"""`python -m export.predict IMAGE… [--run RUN]`: classify images with ONNX Runtime.

Needs no PyTorch, except for --explain.
"""

import sys
from pathlib import Path

from export.bundle.layout import find_bundle
from export.client import ImageError, build_parser, image_files, run
from fmnist.errors import InputError


def explain(bundle: Path, images: list[str], path: Path) -> None:
    """Draw by Grad-CAM what in each image speaks for its class.

    Raises:
        InputError: PyTorch or the checkpoint is not there.
    """
    try:
        # Here: the answers need no PyTorch, which takes seconds to import or is not there.
        from fmnist.evaluation.grad_cam import explain_files
        from fmnist.runs.run_folder import find_checkpoint
        from fmnist.training.checkpoint import load_checkpoint
    except ImportError as error:
        raise InputError(
            f"explain={str(path)!r}: heat maps need PyTorch ({error}); the answers above do not"
        ) from error
    checkpoint = load_checkpoint(find_checkpoint(bundle.parent))
    explain_files(checkpoint, tuple(images), path)
    print(f"saved in {path}")


def main() -> int:
    """Classify, and return the exit code.

    The parser is the client's argparse, not tyro as in the other commands: a machine that only
    predicts needs neither tyro nor rich.
    """
    parser = build_parser()
    parser.prog = "python -m export.predict"
    parser.add_argument("--run", help="run folder or bundle; by default the newest run")
    parser.add_argument(
        "--explain",
        type=Path,
        metavar="PNG",
        help="draw where the model looked (Grad-CAM); needs PyTorch",
    )
    options = parser.parse_intermixed_args()

    try:
        bundle = find_bundle(options.run)
        code = run(bundle, parser, options)
        # Only if every image could be read.
        if options.explain and code == 0:
            explain(bundle, image_files(options.images, notes=False), options.explain)
        return code
    except (InputError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
