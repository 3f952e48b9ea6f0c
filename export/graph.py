"""A checkpoint as an ONNX graph of one file that describes itself."""

import json
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from export.fuse import fuse
from fmnist.checkpoint import Checkpoint

OPSET = 20
INPUT, OUTPUTS = "pixels", ("logits", "probabilities")
MODEL_VERSION = 1


class Averaged(nn.Module):
    """What several models say together, or one of an image and its mirror image: the mean of the probabilities, its logarithm in
    place of logits. Of one model and one view, its own logits.

    Args:
        members: one model, or those of an ensemble.
        flips: see each image and its mirror image.
    """

    def __init__(self, members: Sequence[nn.Module], flips: bool = False) -> None:
        super().__init__()
        self.members, self.flips = nn.ModuleList(members), flips

    def forward(self, pixels: Tensor) -> Tensor:  # (B, H, W) or (B, 3, H, W) uint8 -> (B, classes) float32
        if len(self.members) == 1 and not self.flips:
            return self.members[0](pixels)
        views = torch.stack((pixels, pixels.flip(-1)), 1).flatten(0, 1) if self.flips else pixels
        said = torch.stack([member(views).softmax(1) for member in self.members], 1)  # (B · views, members, classes)
        mean = said.view(-1, len(self.members) * (1 + self.flips), said.shape[-1]).mean(1)
        return mean.clamp_min(torch.finfo(torch.float32).tiny).log()


class Served(nn.Module):
    """What is shipped: raw pixels in, logits and probabilities out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # (B, H, W) or (B, 3, H, W) uint8 -> 2 × (B, classes) float32
        logits = self.model(pixels)
        return logits, logits.softmax(1)


def averaged(checkpoints: Sequence[Checkpoint], flips: bool) -> Averaged:
    """What these checkpoints answer together, in float32 on the CPU, without weights so small that a CPU is slow at them."""
    model = Averaged([checkpoint.model.float().cpu() for checkpoint in checkpoints], flips).eval()
    for weights in model.state_dict().values():
        if weights.is_floating_point():
            weights.masked_fill_(weights.abs() < torch.finfo(weights.dtype).tiny, 0)
    return model


def to_onnx(checkpoints: Sequence[Checkpoint], average_flips: bool = False) -> onnx.ModelProto:
    """The checkpoints' models as one float32 ONNX graph of any batch size; the same bytes each time it is exported.

    Labels, every whole TrainConfig and the data's hashes go into its metadata; the exporter's source lines and paths do not.
    """
    data = checkpoints[0].data
    model = fuse(exported(checkpoints, average_flips))
    _strip(model)
    model.model_version = MODEL_VERSION
    onnx.helper.set_model_props(
        model,
        {
            "labels": json.dumps(data.classes),
            "train_config": json.dumps([checkpoint.config.to_dict() for checkpoint in checkpoints], sort_keys=True),
            "data": json.dumps({"name": data.name, "sha256": data.sha256}, sort_keys=True),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def exported(checkpoints: Sequence[Checkpoint], average_flips: bool = False) -> onnx.ModelProto:
    """The graph as PyTorch's exporter leaves it, but for its notes: stack traces with absolute paths, and names of our modules."""
    program = torch.onnx.export(
        Served(averaged(checkpoints, average_flips)).eval(),
        (torch.zeros(2, *checkpoints[0].data.problem.image_shape, dtype=torch.uint8),),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        external_data=False,
        verbose=False,
    )
    assert program is not None, "dynamo=True returns a program"
    model = program.model_proto
    _strip(model)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove notes."""
    graph = model.graph
    parts: list[Any] = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
