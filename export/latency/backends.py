"""What runs an exported model, or PyTorch in its place: each takes NumPy pixels and gives NumPy
logits."""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from export.bundle.layout import MODEL, variant_file
from export.client import INPUT, OUTPUTS
from export.graph.conversion import Averaged
from export.providers import PROVIDERS, Provider
from export.session import SessionChoice, open_session
from export.timing import Predict
from fmnist.errors import check

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run the model."""

    name: str
    precision: str
    make: Callable[[int], Predict]
    """Makes it for a number of CPU threads; PyTorch's are set before."""


def check_gpu(provider: Provider) -> None:
    """Raise InputError if PyTorch is to run on a GPU and finds none."""
    check(
        provider == "cpu" or torch.cuda.is_available(),
        f"provider={provider!r}: PyTorch finds no GPU here; use --provider cpu",
    )


def backends(
    bundle: Path,
    manifest: dict[str, Any],
    model: Averaged | None,
    provider: Provider,
    choice: SessionChoice,
    *,
    compiled: bool,
) -> list[Backend]:
    """All that can run here, PyTorch eager first.

    Args:
        model: PyTorch's own; None where the checkpoint is not at hand.
        choice: session options of ONNX Runtime on the CPU.
        compiled: torch.compile too.
    """
    several: list[Backend] = []
    if model is not None:
        several += on_pytorch(model, provider, compiled=compiled)

    graphs = {"float32": bundle / MODEL}
    for name, variant in manifest["variants"].items():
        if variant["published"]:
            graphs[name] = bundle / variant_file(name)

    # Int8 has its kernels on CPUs, float16 on GPUs.
    if provider == "cpu":
        graphs.pop("fp16", None)
        for name, path in graphs.items():
            several.append(Backend(backend_name("onnxruntime", name), name, on_cpu(path, choice)))
        if has_openvino():
            for name, path in graphs.items():
                several.append(Backend(backend_name("openvino", name), name, on_openvino(path)))
        return several

    graphs.pop("int8", None)
    for name, path in graphs.items():
        several += on_gpu(path, name)
    return several


def backend_name(runtime: str, precision: str) -> str:
    return runtime if precision == "float32" else f"{runtime}-{precision}"


def on_pytorch(model: Averaged, provider: Provider, *, compiled: bool) -> Iterator[Backend]:
    """PyTorch eager, and compiled if asked for."""

    def make_eager(threads: int) -> Predict:
        return pytorch(model, provider)

    def make_compiled(threads: int) -> Predict:
        return pytorch(model, provider, compiled=True)

    yield Backend("pytorch", "float32", make_eager)
    if compiled:
        yield Backend("pytorch-compiled", "float32", make_compiled)


def pytorch(model: Averaged, provider: Provider, *, compiled: bool = False) -> Predict:
    device = torch.device(provider)
    placed: Any = model.to(device)
    if compiled:
        # Or what was compiled for another number of threads would be taken.
        torch.compiler.reset()
        placed = torch.compile(placed)

    def predict(pixels: Pixels) -> NDArray[np.float32]:
        # From NumPy and back, as every other backend: the copies are part of the call.
        with torch.inference_mode():
            return placed(torch.from_numpy(pixels).to(device)).cpu().numpy()

    return predict


def on_cpu(path: Path, choice: SessionChoice) -> Callable[[int], Predict]:
    def make(threads: int) -> Predict:
        return plain(open_session(path, "cpu", threads=threads, choice=choice))

    return make


def has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def on_openvino(path: Path) -> Callable[[int], Predict]:
    """Intel's runtime, the rival; asked for the shortest latency, in float32 where the graph is."""

    def make(threads: int) -> Predict:
        # Here: it is an extra.
        import openvino as ov

        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = ov.Core().compile_model(str(path), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda pixels: request.infer({0: pixels}, share_inputs=True)[0]

    return make


def on_gpu(path: Path, precision: str) -> Iterator[Backend]:
    """Plain calls, with TF32, with input and output bound to the GPU, as a CUDA graph, and by
    TensorRT where that is."""

    def make_plain(threads: int) -> Predict:
        return plain(open_session(path, "cuda"))

    def make_tf32(threads: int) -> Predict:
        return plain(open_session(path, "cuda", tf32=True))

    def make_bound(threads: int) -> Predict:
        return bound(open_session(path, "cuda"))

    def make_graph(threads: int) -> Predict:
        return bound(open_session(path, "cuda", cuda_graph=True))

    def make_tensorrt(threads: int) -> Predict:
        return plain(open_session(path, "tensorrt"))

    name = backend_name("onnxruntime", precision)
    yield Backend(name, precision, make_plain)
    if precision == "float32":
        yield Backend(f"{name}-tf32", "tf32", make_tf32)
    yield Backend(f"{name}-bound", precision, make_bound)
    yield Backend(f"{name}-graph", precision, make_graph)
    if PROVIDERS["tensorrt"] in ort.get_available_providers():
        yield Backend(f"tensorrt-{precision}", precision, make_tensorrt)


def plain(session: ort.InferenceSession) -> Predict:
    return lambda pixels: session.run([OUTPUTS[0]], {INPUT: pixels})[0]


def bound(session: ort.InferenceSession) -> Predict:
    """Calls whose buffers stay on the GPU; pixels go in and logits come out by one copy each.

    The first call fixes the batch size.
    """
    binding: ort.IOBinding | None = None
    pixels_there: Any = None
    logits_there: Any = None

    def predict(pixels: Pixels) -> NDArray[np.float32]:
        nonlocal binding, pixels_there, logits_there
        if binding is None:
            pixels_there = ort.OrtValue.ortvalue_from_numpy(pixels, "cuda", 0)
            shape = [len(pixels), session.get_outputs()[0].shape[1]]
            logits_there = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
            binding = session.io_binding()
            binding.bind_ortvalue_input(INPUT, pixels_there)
            binding.bind_ortvalue_output(OUTPUTS[0], logits_there)
        else:
            pixels_there.update_inplace(pixels)
        session.run_with_iobinding(binding)
        return logits_there.numpy()

    return predict
