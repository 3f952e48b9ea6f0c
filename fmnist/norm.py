"""Batch norm over the batches of all ranks, on CPUs too."""

from typing import Any

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
    """nn.BatchNorm2d whose statistics in training are those of all ranks' batches, which may differ in size.

    torch.nn.SyncBatchNorm is faster, and refuses a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # (B, C, H, W) float; the name is nn.Module's
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        values = input.float()
        around = self.running_mean.view(1, -1, 1, 1)  # small differences of large sums would lose digits
        centred = values - around
        count = values.new_tensor([values.numel() / values.shape[1]])
        sums: Tensor = SumOverRanks.apply(torch.cat((centred.sum((0, 2, 3)), centred.square().sum((0, 2, 3)), count)))  # pyright: ignore
        total, channels = sums[-1], values.shape[1]
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
    """Make every batch norm of the model one over all ranks; parameters and buffers stay the same tensors."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                kind = SyncBatchNorm2d if child.weight.device.type == "cpu" else nn.SyncBatchNorm
                synchronised = kind(child.num_features, child.eps, child.momentum, device="meta")
                for tensor_name, tensor in (*child.named_parameters(), *child.named_buffers()):
                    setattr(synchronised, tensor_name, tensor)
                setattr(module, name, synchronised.train(child.training))
