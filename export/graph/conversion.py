"""A checkpoint as an ONNX graph of one file that describes itself."""

import json
from collections.abc import Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from export.client import INPUT, OUTPUTS
from export.graph.fusing import fuse
from fmnist.training.checkpoint import Checkpoint

OPSET = 20
MODEL_VERSION = 1


class Averaged(nn.Module):
    """Average the probabilities of several models, or of an image and its mirror image.

    In place of logits it gives the logarithm of the mean probabilities; of one model and one view
    the model's own logits.

    Args:
        members: one model, or those of an ensemble.
        flips: see each image and its mirror image.
    """

    def __init__(self, members: Sequence[nn.Module], flips: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.flips = flips

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, classes) float32 of pixels (B, H, W) or (B, 3, H, W) uint8."""
        if len(self.members) == 1 and not self.flips:
            return self.members[0](pixels)

        views = pixels
        if self.flips:
            views = torch.stack((pixels, pixels.flip(-1)), 1).flatten(0, 1)
        probabilities = [member(views).softmax(1) for member in self.members]
        # (B · views, members, classes), then (B, views · members, classes)
        stacked = torch.stack(probabilities, 1)
        answers = len(self.members) * (1 + self.flips)
        mean = stacked.view(-1, answers, stacked.shape[-1]).mean(1)
        # The softmax of these logarithms is the mean again; of 0 it would be -inf.
        return mean.clamp_min(torch.finfo(torch.float32).tiny).log()


class Served(nn.Module):
    """What is shipped: raw pixels in, logits and probabilities out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Two times (B, classes) float32 of pixels (B, H, W) or (B, 3, H, W) uint8."""
        logits = self.model(pixels)
        return logits, logits.softmax(1)


def averaged(checkpoints: Sequence[Checkpoint], flips: bool) -> Averaged:
    """The checkpoints as one model, in float32 on the CPU."""
    members = [checkpoint.model.float().cpu() for checkpoint in checkpoints]
    model = Averaged(members, flips).eval()
    # Weights below float32's normal range become 0: a CPU is up to a hundred times slower at them.
    for weights in model.state_dict().values():
        if weights.is_floating_point():
            smallest = torch.finfo(weights.dtype).tiny
            weights.masked_fill_(weights.abs() < smallest, 0)
    return model


def to_onnx(checkpoints: Sequence[Checkpoint], average_flips: bool = False) -> onnx.ModelProto:
    """The checkpoints' models as one float32 ONNX graph of any batch size.

    Exported again, it is the same to the byte. Labels, every whole TrainConfig and the data's
    hashes go into its metadata; the exporter's source lines and paths do not.
    """
    data = checkpoints[0].data
    configs = [checkpoint.config.to_dict() for checkpoint in checkpoints]
    description = {
        "labels": json.dumps(data.classes),
        "train_config": json.dumps(configs, sort_keys=True),
        "data": json.dumps({"name": data.name, "sha256": data.sha256}, sort_keys=True),
    }

    model = fuse(exported(checkpoints, average_flips))
    # Again: the rewriter adds notes of its own.
    _strip(model)
    model.model_version = MODEL_VERSION
    onnx.helper.set_model_props(model, description)
    onnx.checker.check_model(model, full_check=True)
    return model


def exported(checkpoints: Sequence[Checkpoint], average_flips: bool = False) -> onnx.ModelProto:
    """The graph as PyTorch's exporter leaves it, but for its notes.

    The notes are stack traces with absolute paths, and names of our modules.
    """
    image_shape = checkpoints[0].data.problem.image_shape
    program = torch.onnx.export(
        Served(averaged(checkpoints, average_flips)).eval(),
        # Two images: the exporter would take a batch of 1 for a constant.
        (torch.zeros(2, *image_shape, dtype=torch.uint8),),
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


def describe_as(variant: onnx.ModelProto, original: onnx.ModelProto) -> onnx.ModelProto:
    """Give a variant the name, the labels and the configs of the original."""
    del variant.metadata_props[:]
    variant.metadata_props.extend(original.metadata_props)
    variant.model_version = original.model_version
    variant.graph.name = original.graph.name
    return variant


def _strip(model: onnx.ModelProto) -> None:
    """Remove notes."""
    # Everything that may carry a note, of the graph and of the functions that it calls.
    graph = model.graph
    parts: list[Any] = [graph, *graph.node, *graph.input, *graph.output]
    parts += [*graph.value_info, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]

    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
