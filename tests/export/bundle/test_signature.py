"""A signature catches changes that nothing else shows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from export.bundle.integrity import VerificationError, check_bundle
from export.bundle.signature import check_signature, sign
from export.bundle.writer import refresh
from fmnist.errors import InputError
from tests.conftest import Outcome
from tests.export.bundle.tampering import change_graph, change_weights, new_key


def test_a_signature_catches_whoever_recomputes_everything(
    bundle: Path, tmp_path: Path, call: Callable[..., Outcome]
) -> None:
    private, public = new_key(tmp_path, "mine")
    _, foreign = new_key(tmp_path, "other")
    with pytest.raises(VerificationError, match=r"signature: .* has none"):
        check_signature(bundle, public)

    sign(bundle, private)
    check_signature(bundle, public)
    check_bundle(bundle, "cpu")
    with pytest.raises(VerificationError, match="signature: it is not of these files by this key"):
        check_signature(bundle, foreign)

    signature = (bundle / "model.sig").read_bytes()

    def change(values: np.ndarray) -> None:
        # The lowest bit: no answer shows it.
        values.reshape(-1).view(np.uint32)[7] ^= 1

    change_graph(bundle, lambda model: change_weights(model, "blocks.1.conv1.weight", change))
    refresh(bundle)
    (bundle / "model.sig").write_bytes(signature)
    check_bundle(bundle, "cpu")
    with pytest.raises(VerificationError, match="signature: it is not of these files"):
        check_signature(bundle, public)
    done = call("export.verify", bundle, "--key", public)
    assert (done.code, done.output.startswith("failed: signature: ")) == (1, True)

    for key in (tmp_path / "none.pem", bundle / "client.py"):
        with pytest.raises(InputError, match=r"sign='.*it cannot sign"):
            sign(bundle, key)
