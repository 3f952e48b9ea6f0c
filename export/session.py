"""ONNX Runtime sessions that run on the provider that was asked for, or raise."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from export.client import session_options
from export.providers import PROVIDERS, Provider
from fmnist.errors import InputError, first_line
from fmnist.training.device import default_device

FATAL = 4
"""ONNX Runtime's severity from which it logs."""


@dataclass(frozen=True, slots=True)
class SessionChoice:
    """Options of a CPU session, of which `export.benchmark` finds the fastest.

    The defaults are ONNX Runtime's.
    """

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
        """ONNX Runtime's options, for a number of CPU threads (0: one per core)."""
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
    """Open a session, by default at the optimisation level that is served (all).

    Args:
        model: the ONNX file, or its content.
        provider: where to run.
        threads: CPU threads; 0 means one per core.
        tf32: let the CUDA provider round to TF32, which parity must not.
        cuda_graph: let the CUDA provider capture the call and play it back; shapes and buffers must
            stay the same then.
        choice: of a CPU session.

    Raises:
        InputError: the provider cannot be had here. ONNX Runtime itself would run on the CPU
            without a word (onnxruntime#23372).
    """
    # A missing provider is reported below, in one line, and not by ONNX Runtime as well.
    ort.set_default_logger_severity(FATAL)
    if provider != "cpu" and hasattr(ort, "preload_dlls"):
        # CUDA's libraries from the Python environment: the system may have none.
        ort.preload_dlls()

    check_available(provider)
    name = PROVIDERS[provider]
    settings: dict[str, dict[str, Any]] = {
        "cpu": {},
        "cuda": {"use_tf32": int(tf32), "enable_cuda_graph": int(cuda_graph)},
        # Its answers must be float32's too.
        "tensorrt": {"trt_fp16_enable": False},
    }
    try:
        session = ort.InferenceSession(
            model, choice.options(threads), providers=[(name, settings[provider])]
        )
    # ONNX Runtime's own exceptions share no base class but this.
    except Exception as error:
        what = model if isinstance(model, Path) else "the graph"
        raise InputError(f"{what} cannot be loaded: {first_line(error)}") from error

    # It falls back to the CPU where a provider is installed but cannot start.
    started = session.get_providers()[0]
    if started != name:
        raise InputError(
            f"provider={provider!r}: ONNX Runtime could not start it and would run on {started}; "
            "check the GPU, its driver, and that CUDA's libraries fit this onnxruntime-gpu, "
            "or use --provider cpu"
        )
    return session


def check_available(provider: Provider) -> None:
    """Raise InputError unless this onnxruntime was built with a provider."""
    available = ort.get_available_providers()
    if PROVIDERS[provider] not in available:
        raise InputError(
            f"provider={provider!r}: this onnxruntime has {', '.join(available)} only; "
            "use --provider cpu"
        )


def default_provider() -> Provider:
    """cuda where PyTorch finds a GPU, else cpu."""
    return "cuda" if default_device().type == "cuda" else "cpu"
