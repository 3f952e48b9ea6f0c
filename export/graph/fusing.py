"""Fuse by ONNX's own rewriter what PyTorch's exporter leaves in several nodes.

The exporter folds batch norm into the convolution right before it. Left are a batch norm behind a
max-pool, as in airnet, and the normalisation of the pixels.
"""

from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase


# Own rules, since the rewriter has none for these two; it finds the places and replaces the nodes.
# It passes what a pattern names, by name: these are the parameters of `check` and `rewrite`.
class NormBeforePool(RewriteRuleClassBase):
    """Move a batch norm from behind a max-pool to before it, where a convolution can take it up.

    BatchNormalization(MaxPool(x)) is MaxPool(BatchNormalization(x)) where every channel's scale is
    positive: the largest value stays the largest.
    """

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
        pooled = op.MaxPool(x, _allow_other_attributes=True, _outputs=["pooled"])
        statistics = (scale, bias, mean, variance)
        return op.BatchNormalization(
            pooled, *statistics, _allow_other_attributes=True, _outputs=["normed"]
        )

    def check(self, context: Any, x: ir.Value, scale: ir.Value, **_: Any) -> MatchResult:
        result = MatchResult()
        before = x.producer()
        if before is None or before.op_type != "Conv":
            return result.fail("no convolution takes it up")
        if scale.const_value is None or not (scale.const_value.numpy() > 0).all():
            return result.fail("a scale is not positive")
        return result

    def rewrite(
        self,
        op: Any,
        x: Any,
        scale: Any,
        bias: Any,
        mean: Any,
        variance: Any,
        pooled: ir.Value,
        normed: ir.Value,
    ) -> Any:
        norm, pool = normed.producer(), pooled.producer()
        assert norm is not None and pool is not None
        before_pool = op.BatchNormalization(x, scale, bias, mean, variance, **norm.attributes)
        return op.MaxPool(before_pool, **pool.attributes)


class NormalisationInConv(RewriteRuleClassBase):
    """Put the normalisation of the pixels into the convolution that follows it.

    Of Conv((pixels - mean) / std) the division goes into the kernels, and the subtraction into the
    bias where nothing is padded: what is padded is 0 after the normalisation, not before.
    """

    def pattern(self, op: Any, pixels: Any, mean: Any, std: Any) -> Any:
        normalised = op.Div(op.Sub(pixels, mean, _outputs=["centred"]), std)
        return op.Conv(
            normalised,
            _allow_other_inputs=True,
            _allow_other_attributes=True,
            _outputs=["convolved"],
        )

    def check(
        self, context: Any, mean: ir.Value, std: ir.Value, convolved: ir.Value, **_: Any
    ) -> MatchResult:
        result = MatchResult()
        node = convolved.producer()
        assert node is not None

        parameters = node.inputs[1:]
        # What is computed at run time cannot go into a kernel.
        if any(value is None or value.const_value is None for value in (mean, std, *parameters)):
            return result.fail("a kernel, a bias or a statistic is no constant")
        # The other node's kernel would change too.
        if any(len(value.uses()) > 1 for value in parameters if value is not None):
            return result.fail("another node has the same kernel or bias")

        grouped = node.attributes.get_int("group", 1) != 1
        padded_by_rule = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
        if grouped or padded_by_rule:
            return result.fail("grouped, or padded by a rule")
        return result

    def rewrite(
        self, op: Any, pixels: Any, mean: ir.Value, std: ir.Value, centred: Any, convolved: ir.Value
    ) -> Any:
        node = convolved.producer()
        assert node is not None
        # A convolution's inputs: the image, the kernel, and a bias if it has one.
        _, kernel, *rest = cast(list[ir.Value], list(node.inputs))
        old_bias = rest[0] if rest else None
        padded = any(node.attributes.get_ints("pads", [0]))

        # In float64, so that rounding comes once, at the end.
        scaled = _numbers(kernel) / _numbers(std).reshape(1, -1, 1, 1)
        bias = np.zeros(len(scaled)) if old_bias is None else _numbers(old_bias)
        convolution_input = centred
        if not padded:
            convolution_input = pixels
            shift = scaled * _numbers(mean).reshape(1, -1, 1, 1)
            bias = bias - shift.sum((1, 2, 3))

        # The kernel keeps its name, so the file still tells which layer it belongs to.
        inputs = [_initializer(op, scaled, str(kernel.name))]
        if old_bias is not None:
            inputs.append(_initializer(op, bias, str(old_bias.name)))
        elif not padded:
            inputs.append(_initializer(op, bias, f"{kernel.name}_bias"))
        return op.Conv(convolution_input, *inputs, **node.attributes)


def fuse(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function in fewer nodes."""
    model = rewrite(model, [NormBeforePool.rule()])
    # The rewriter's own rules, batch norm into convolutions among them.
    model = rewrite(model)
    # The nodes stay until nobody needs them: several convolutions may see the same pixels.
    return rewrite(model, [NormalisationInConv.rule(remove_nodes=False)])


def _initializer(op: Any, values: np.ndarray, name: str) -> Any:
    return op.initializer(ir.tensor(values.astype(np.float32)), name=name)


def _numbers(value: ir.Value) -> np.ndarray:
    assert value.const_value is not None
    return value.const_value.numpy().astype(np.float64)
