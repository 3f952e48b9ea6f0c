"""Signatures of whole bundles by model-signing (an extra): whoever has no key can change nothing unseen."""

from pathlib import Path
from typing import Any

from export.bundle import SIGNATURE
from export.check import VerificationError
from fmnist.errors import InputError, first_line


def sign(folder: Path, key: Path) -> None:
    """Sign every file of a bundle. What is changed later, by verification or a benchmark too, needs a new signature.

    Args:
        key: a private elliptic-curve key (PEM): openssl ecparam -name prime256v1 -genkey -noout -out KEY.

    Raises:
        InputError: the key cannot be used, or model-signing is not installed.
    """
    signing = _module("signing")
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(_hashing())
        signer.sign(folder, folder / SIGNATURE)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"sign={str(key)!r}: it cannot sign: {first_line(error)}; give a private elliptic-curve key in PEM"
        ) from error


def check_signature(folder: Path, key: Path) -> None:
    """Hold a bundle against its signature.

    Args:
        key: the public key (PEM): openssl ec -in KEY -pubout.

    Raises:
        VerificationError: there is no signature, it is of other files, or by another key.
        InputError: the key cannot be used, or model-signing is not installed.
    """
    verifying = _module("verifying")
    if not (folder / SIGNATURE).exists():
        raise VerificationError(f"signature: {folder} has none; sign it with: python -m export.to_onnx --sign KEY")
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key).set_hashing_config(_hashing())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"key={str(key)!r}: it cannot be used: {first_line(error)}; give a public elliptic-curve key in PEM"
        ) from error
    try:
        verifier.verify(folder, folder / SIGNATURE)
    except Exception as error:  # its own, cryptography's, and those of whatever reads the signature
        raise VerificationError(f"signature: it is not of these files by this key: {first_line(error)}") from error


def _hashing() -> Any:
    return _module("hashing").Config().set_ignored_paths(paths=[SIGNATURE])


def _module(name: str) -> Any:
    import importlib  # here: an extra, and slow to import

    try:
        return importlib.import_module(f"model_signing.{name}")
    except ImportError as error:
        remedy = "install it with: pip install model-signing pyopenssl"
        raise InputError(f"signatures need model-signing; {remedy} ({error})") from error
