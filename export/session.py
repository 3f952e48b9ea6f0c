"""ONNX Runtime sessions that run where they were asked to, or not at all."""

from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from fmnist.device import default_device
from fmnist.errors import InputError

Provider = Literal["cpu", "cuda"]
PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(path: Path, provider: Provider, *, threads: int = 0, tf32: bool = False) -> ort.InferenceSession:
    """A session at the optimisation level that is served (all).

    Args:
        path: the ONNX file.
        provider: where to run.
        threads: CPU threads; 0 means one per core.
        tf32: let the CUDA provider round to TF32, which parity must not.

    Raises:
        InputError: the provider cannot be had here. ONNX Runtime itself would run on the CPU without a word (onnxruntime#23372).
    """
    ort.set_default_logger_severity(4)  # what it says of a missing provider is told below, in one line
    if provider == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's libraries from the Python environment: the system may have none
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    settings: dict[str, Any] = {"use_tf32": int(tf32)} if provider == "cuda" else {}
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise InputError(f"provider={provider!r}: this onnxruntime has {', '.join(ort.get_available_providers())} only")
    try:
        session = ort.InferenceSession(path, options, providers=[(name, settings)])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
        raise InputError(f"{path} cannot be loaded: {str(error).splitlines()[0]}") from error
    if session.get_providers()[0] != name:
        raise InputError(
            f"provider={provider!r}: ONNX Runtime could not start it and would run on {session.get_providers()[0]}; "
            f"is there a GPU, with a driver and CUDA libraries that this onnxruntime-gpu fits? Else use --provider cpu"
        )
    return session


def default_provider() -> Provider:
    return "cuda" if default_device().type == "cuda" else "cpu"
