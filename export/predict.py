"""`python -m export.predict IMAGE… [--run RUN]`: top 3 with probabilities, by ONNX Runtime, without PyTorch."""

import sys

from export.client import build_parser, predict
from fmnist.errors import InputError
from fmnist.run import find_bundle


def main() -> int:
    parser = build_parser()
    parser.prog = "python -m export.predict"
    parser.add_argument("--run", help="run folder or bundle; by default the newest run")
    options = parser.parse_intermixed_args()
    try:
        return predict(find_bundle(options.run), options.images, options.top, options.photo)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
