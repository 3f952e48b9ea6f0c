import onnx

from export.variants.fp16 import fp16
from export.variants.gate import difference
from export.variants.int8 import graph_logits
from fmnist.data.dataset import Split


def test_fp16_takes_and_gives_what_float32_does(model: onnx.ModelProto, judge: Split) -> None:
    half = fp16(model)
    assert any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in half.graph.initializer)

    reference, logits = graph_logits(model, judge.images), graph_logits(half, judge.images)
    agreement, _ = difference(reference, logits, judge.labels.numpy())
    assert agreement >= 0.998
