"""`python -m export.predict IMAGE… [--run RUN]`: top 3 with probabilities, by ONNX Runtime, without PyTorch."""

import sys
from pathlib import Path

from export.client import ImageError, build_parser, image_files, run
from fmnist.errors import InputError
from fmnist.run import find_bundle


def explain(bundle: Path, images: list[str], path: Path) -> None:
    """Draw by Grad-CAM what in each image speaks for its class. Raises InputError if PyTorch or the checkpoint is not there."""
    try:
        from fmnist.checkpoint import load_checkpoint
        from fmnist.explain import explain_files
        from fmnist.run import find_checkpoint
    except ImportError as error:
        raise InputError(f"explain={str(path)!r}: heat maps need PyTorch ({error}); the answers above do not") from error
    explain_files(load_checkpoint(find_checkpoint(bundle.parent)), tuple(images), path)
    print(f"saved in {path}")


def main() -> int:
    parser = build_parser()
    parser.prog = "python -m export.predict"
    parser.add_argument("--run", help="run folder or bundle; by default the newest run")
    parser.add_argument("--explain", type=Path, metavar="PNG", help="draw where the model looked (Grad-CAM); needs PyTorch")
    options = parser.parse_intermixed_args()
    try:
        bundle = find_bundle(options.run)
        code = run(bundle, parser, options)
        if options.explain and not code:
            explain(bundle, image_files(options.images), options.explain)
        return code
    except (InputError, ImageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
