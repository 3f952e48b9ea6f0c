"""The graph in float16."""

import onnx

from export.graph.conversion import describe_as


def fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph in float16 but for its inputs and outputs."""
    # Here: it imports all of ONNX Runtime's tools for transformers.
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return describe_as(convert_float_to_float16(copy, keep_io_types=True), model)
