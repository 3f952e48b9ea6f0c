"""Batch norm over the batches of all ranks, on CPUs too."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function


class SumOverRanks(Function):
    """All-reduce whose gradient is summed over the ranks as well."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return SumOverRanks.forward(ctx, gradients[0])


class SyncBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d whose statistics in training are over the batches of all ranks.

    The batches may differ in size. torch.nn.SyncBatchNorm is faster, and refuses a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (nn.Module's name)
        """(B, C, H, W) float -> the same."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None

        # About the running mean: small differences of large sums would lose digits.
        values = input.float()
        centred = values - self.running_mean.view(1, -1, 1, 1)

        # One all-reduce for the sums, the sums of squares and the count.
        channels = values.shape[1]
        count = values.new_tensor([values.numel() / channels])
        local = torch.cat((centred.sum((0, 2, 3)), centred.square().sum((0, 2, 3)), count))
        sums = cast(Tensor, SumOverRanks.apply(local))
        total = sums[-1]
        offset = sums[:channels] / total
        variance = sums[channels:-1] / total - offset.square()

        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
            self.running_mean.add_(self.momentum * offset)

        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - offset * scale
        return (centred * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(input.dtype)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Make every batch norm of the model one over all ranks.

    Parameters and buffers stay the same tensors, so that optimisers keep them.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> nn.Module:
    on_cpu = norm.weight.device.type == "cpu"
    kind = SyncBatchNorm2d if on_cpu else nn.SyncBatchNorm
    # Without memory of its own: every tensor is replaced.
    synchronised = kind(norm.num_features, norm.eps, norm.momentum, device="meta")
    for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
        setattr(synchronised, name, tensor)
    return synchronised.train(norm.training)
