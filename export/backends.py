"""What runs an exported model, or PyTorch in its place: each takes NumPy pixels and gives NumPy logits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from export.bundle import variant_file
from export.graph import INPUT, OUTPUTS, Averaged
from export.session import Provider, SessionChoice, open_session
from export.timing import Predict
from fmnist.run import MODEL

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run the model."""

    name: str
    precision: str
    make: Callable[[int], Predict]
    """By number of CPU threads, which PyTorch's are set to already."""


def backends(
    bundle: Path, manifest: dict[str, Any], model: Averaged | None, provider: Provider, choice: SessionChoice
) -> list[Backend]:
    """All that can run here, PyTorch eager first.

    Args:
        model: PyTorch's own; None where the checkpoint is not at hand.
        choice: session options of ONNX Runtime on the CPU.
    """
    found: list[Backend] = []
    if model is not None:
        found.append(Backend("pytorch", "float32", lambda threads: pytorch(model, provider)))
        found.append(Backend("pytorch-compiled", "float32", lambda threads: pytorch(model, provider, compiled=True)))
    graphs = {"float32": bundle / MODEL}
    graphs |= {name: bundle / variant_file(name) for name, variant in manifest["variants"].items() if variant["published"]}
    if provider == "cpu":
        graphs.pop("fp16", None)
        found += [Backend(named("onnxruntime", name), name, on_cpu(path, choice)) for name, path in graphs.items()]
        if openvino_there():
            found += [Backend(named("openvino", name), name, on_openvino(path)) for name, path in graphs.items()]
        return found
    for name, path in graphs.items():
        if name != "int8":
            found += on_gpu(path, name)
    return found


def named(runtime: str, precision: str) -> str:
    return runtime if precision == "float32" else f"{runtime}-{precision}"


def pytorch(model: Averaged, provider: Provider, *, compiled: bool = False) -> Predict:
    device = torch.device(provider)
    placed: Any = model.to(device)
    if compiled:
        torch.compiler.reset()
        placed = torch.compile(placed)

    def predict(pixels: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            return placed(torch.from_numpy(pixels).to(device)).cpu().numpy()

    return predict


def on_cpu(path: Path, choice: SessionChoice) -> Callable[[int], Predict]:
    def make(threads: int) -> Predict:
        return plain(open_session(path, "cpu", threads=threads, choice=choice))

    return make


def openvino_there() -> bool:
    import importlib.util

    return importlib.util.find_spec("openvino") is not None


def on_openvino(path: Path) -> Callable[[int], Predict]:
    """Intel's runtime, the rival; asked for the shortest latency, in float32 where the graph is."""

    def make(threads: int) -> Predict:
        import openvino as ov

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = ov.Core().compile_model(str(path), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda pixels: request.infer({0: pixels}, share_inputs=True)[0]

    return make


def on_gpu(path: Path, precision: str) -> Iterator[Backend]:
    """Plain calls, with TF32, with input and output bound to the GPU, as a CUDA graph, and by TensorRT where that is."""

    name = named("onnxruntime", precision)
    yield Backend(name, precision, lambda threads: plain(open_session(path, "cuda")))
    if precision == "float32":
        yield Backend(f"{name}-tf32", "tf32", lambda threads: plain(open_session(path, "cuda", tf32=True)))
    yield Backend(f"{name}-bound", precision, lambda threads: bound(open_session(path, "cuda")))
    yield Backend(f"{name}-graph", precision, lambda threads: bound(open_session(path, "cuda", cuda_graph=True)))
    if "TensorrtExecutionProvider" in ort.get_available_providers():
        yield Backend(f"tensorrt-{precision}", precision, lambda threads: plain(open_session(path, "tensorrt")))


def plain(session: ort.InferenceSession) -> Predict:
    return lambda pixels: session.run([OUTPUTS[0]], {INPUT: pixels})[0]


def bound(session: ort.InferenceSession) -> Predict:
    """Calls whose buffers stay on the GPU; pixels go in and logits come out by one copy each. Of one batch size alone."""
    binding: ort.IOBinding | None = None
    pixels_there: Any = None
    logits_there: Any = None

    def predict(pixels: Pixels) -> NDArray[np.float32]:
        nonlocal binding, pixels_there, logits_there
        if binding is None:
            pixels_there = ort.OrtValue.ortvalue_from_numpy(pixels, "cuda", 0)
            classes = session.get_outputs()[0].shape[1]
            logits_there = ort.OrtValue.ortvalue_from_shape_and_type([len(pixels), classes], np.float32, "cuda", 0)
            binding = session.io_binding()
            binding.bind_ortvalue_input(INPUT, pixels_there)
            binding.bind_ortvalue_output(OUTPUTS[0], logits_there)
        else:
            pixels_there.update_inplace(pixels)
        session.run_with_iobinding(binding)
        return logits_there.numpy()

    return predict
