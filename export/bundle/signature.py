"""Signatures of whole bundles by model-signing (an extra).

Whoever has no key can change nothing unseen.
"""

import importlib
from pathlib import Path
from typing import Any

from export.bundle.integrity import VerificationError
from export.bundle.layout import SIGNATURE
from fmnist.errors import InputError, first_line


def sign(folder: Path, key: Path) -> None:
    """Sign every file of a bundle. What is changed later, by verification or a benchmark too, needs
    a new signature.

    Args:
        key: a private elliptic-curve key (PEM): openssl ecparam -name prime256v1 -genkey -noout
            -out KEY.

    Raises:
        InputError: the key cannot be used, or model-signing is not installed.
    """
    config = _module("signing").Config()
    try:
        signer = config.use_elliptic_key_signer(private_key=key).set_hashing_config(_hashing())
        signer.sign(folder, folder / SIGNATURE)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"sign={str(key)!r}: it cannot sign: {first_line(error)}; "
            "give a private elliptic-curve key in PEM"
        ) from error


def check_signature(folder: Path, key: Path) -> None:
    """Hold a bundle against its signature.

    Args:
        key: the public key (PEM): openssl ec -in KEY -pubout.

    Raises:
        VerificationError: there is no signature, it is of other files, or by another key.
        InputError: the key cannot be used, or model-signing is not installed.
    """
    config = _module("verifying").Config()

    if not (folder / SIGNATURE).exists():
        raise VerificationError(
            f"signature: {folder} has none; sign it with: python -m export.to_onnx --sign KEY"
        )

    try:
        verifier = config.use_elliptic_key_verifier(public_key=key).set_hashing_config(_hashing())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"key={str(key)!r}: it cannot be used: {first_line(error)}; "
            "give a public elliptic-curve key in PEM"
        ) from error

    try:
        verifier.verify(folder, folder / SIGNATURE)
    # Its own errors, cryptography's, and those of whatever reads the signature.
    except Exception as error:
        raise VerificationError(
            f"signature: it is not of these files by this key: {first_line(error)}"
        ) from error


def _hashing() -> Any:
    # The signature cannot be of itself.
    return _module("hashing").Config().set_ignored_paths(paths=[SIGNATURE])


def _module(name: str) -> Any:
    """A module of model-signing, which is an extra and slow to import."""
    try:
        return importlib.import_module(f"model_signing.{name}")
    except ImportError as error:
        raise InputError(
            f"signatures need model-signing ({error}); "
            "install it with: pip install model-signing pyopenssl"
        ) from error
