"""ONNX Runtime sessions that run where they were asked to, or not at all."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import onnxruntime as ort

from export.client import session_options
from fmnist.device import default_device
from fmnist.errors import InputError, first_line

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True, slots=True)
class SessionChoice:
    """Options of a CPU session, of which `export.benchmark` finds the fastest; as ONNX Runtime has them by default."""

    spinning: bool = True
    """Threads wait by spinning: quicker to start, and a core is never free."""
    arena: bool = True
    """Memory comes from ONNX Runtime's own arena."""
    pattern: bool = True
    """Memory is planned by the shapes of the call before."""
    layout: bool = True
    """Convolutions may take their own blocked layout (optimisation level all, not extended)."""

    def to_dict(self) -> dict[str, bool]:
        return asdict(self)

    def options(self, threads: int) -> Any:
        options = session_options(self.to_dict())
        options.intra_op_num_threads = threads
        return options


def open_session(
    model: Path | bytes,
    provider: Provider,
    *,
    threads: int = 0,
    tf32: bool = False,
    cuda_graph: bool = False,
    choice: SessionChoice = SessionChoice(),
) -> ort.InferenceSession:
    """A session, by default at the optimisation level that is served (all).

    Args:
        model: the ONNX file, or its content.
        provider: where to run.
        threads: CPU threads; 0 means one per core.
        tf32: let the CUDA provider round to TF32, which parity must not.
        cuda_graph: let the CUDA provider capture the call and play it back; shapes and buffers must stay the same then.
        choice: of a CPU session.

    Raises:
        InputError: the provider cannot be had here. ONNX Runtime itself would run on the CPU without a word (onnxruntime#23372).
    """
    ort.set_default_logger_severity(4)  # what it says of a missing provider is told below, in one line
    if provider != "cpu" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # CUDA's libraries from the Python environment: the system may have none
    settings: dict[str, dict[str, Any]] = {
        "cpu": {},
        "cuda": {"use_tf32": int(tf32), "enable_cuda_graph": int(cuda_graph)},
        "tensorrt": {"trt_fp16_enable": False},
    }
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise InputError(f"provider={provider!r}: this onnxruntime has {', '.join(ort.get_available_providers())} only")
    try:
        session = ort.InferenceSession(model, choice.options(threads), providers=[(name, settings[provider])])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
        what = model if isinstance(model, Path) else "the graph"
        raise InputError(f"{what} cannot be loaded: {first_line(error)}") from error
    if session.get_providers()[0] != name:
        raise InputError(
            f"provider={provider!r}: ONNX Runtime could not start it and would run on {session.get_providers()[0]}; "
            f"is there a GPU, with a driver and CUDA libraries that this onnxruntime-gpu fits? Else use --provider cpu"
        )
    return session


def default_provider() -> Provider:
    return "cuda" if default_device().type == "cuda" else "cpu"
