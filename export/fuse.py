"""What PyTorch's exporter leaves that could be fewer nodes, fused by ONNX's own rewriter.

The exporter folds batch norm into the convolution right before it. Left are a batch norm behind a max-pool, as in airnet, and the
normalisation of the pixels.
"""

from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase


class NormBeforePool(RewriteRuleClassBase):
    """BatchNormalization(MaxPool(x)) is MaxPool(BatchNormalization(x)) where every channel's scale is positive: the largest value
    stays the largest. There a convolution can take it up."""

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
        pooled = op.MaxPool(x, _allow_other_attributes=True, _outputs=["pooled"])
        return op.BatchNormalization(pooled, scale, bias, mean, variance, _allow_other_attributes=True, _outputs=["normed"])

    def check(self, context: Any, x: ir.Value, scale: ir.Value, **_: Any) -> MatchResult:
        found = MatchResult()
        before = x.producer()
        if before is None or before.op_type != "Conv":
            return found.fail("no convolution takes it up")
        if scale.const_value is None or not (scale.const_value.numpy() > 0).all():
            return found.fail("a scale is not positive")
        return found

    def rewrite(self, op: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any, pooled: ir.Value, normed: ir.Value) -> Any:
        norm, pool = normed.producer(), pooled.producer()
        assert norm is not None and pool is not None
        return op.MaxPool(op.BatchNormalization(x, scale, bias, mean, variance, **norm.attributes), **pool.attributes)


class NormalisationInConv(RewriteRuleClassBase):
    """Conv((pixels - mean) / std): the division goes into the kernels, and the subtraction into the bias where nothing is padded:
    what is padded is 0 after the normalisation, not before."""

    def pattern(self, op: Any, pixels: Any, mean: Any, std: Any) -> Any:
        normalised = op.Div(op.Sub(pixels, mean, _outputs=["centred"]), std)
        return op.Conv(normalised, _allow_other_inputs=True, _allow_other_attributes=True, _outputs=["convolved"])

    def check(self, context: Any, mean: ir.Value, std: ir.Value, convolved: ir.Value, **_: Any) -> MatchResult:
        found, node = MatchResult(), convolved.producer()
        assert node is not None
        if any(value is None or value.const_value is None for value in (mean, std, *node.inputs[1:])):
            return found.fail("a kernel, a bias or a statistic is no constant")
        if any(len(value.uses()) > 1 for value in node.inputs[1:] if value is not None):
            return found.fail("another node has the same kernel or bias")
        if node.attributes.get_int("group", 1) != 1 or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return found.fail("grouped, or padded by a rule")
        return found

    def rewrite(self, op: Any, pixels: Any, mean: ir.Value, std: ir.Value, centred: Any, convolved: ir.Value) -> Any:
        node = convolved.producer()
        assert node is not None
        _, kernel, *rest = cast(list[ir.Value], list(node.inputs))
        scaled = _numbers(kernel) / _numbers(std).reshape(1, -1, 1, 1)
        name = str(kernel.name)
        bias = _numbers(rest[0]) if rest else np.zeros(len(scaled))
        padded = any(node.attributes.get_ints("pads", [0]))
        if padded:
            pixels = centred
        else:
            bias = bias - (scaled * _numbers(mean).reshape(1, -1, 1, 1)).sum((1, 2, 3))
        inputs = [op.initializer(ir.tensor(scaled.astype(np.float32)), name=name)]
        if rest or not padded:
            inputs.append(op.initializer(ir.tensor(bias.astype(np.float32)), name=str(rest[0].name) if rest else f"{name}_bias"))
        return op.Conv(pixels, *inputs, **node.attributes)


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in fewer nodes."""
    model = rewrite(model, [NormBeforePool.rule()])
    model = rewrite(model)  # the rewriter's own rules, batch norm into convolutions among them
    return rewrite(model, [NormalisationInConv.rule(remove_nodes=False)])  # several convolutions may see the same


def _numbers(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float64)
