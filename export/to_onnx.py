"""`python -m export.to_onnx [RUN]`: a checkpoint becomes RUN/export/model.onnx, one file that describes itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import onnx
import torch
import tyro
from rich.console import Console
from torch import Tensor, nn

from export.bundle import write_bundle
from fmnist.checkpoint import Checkpoint, load_checkpoint
from fmnist.cli import command
from fmnist.run import find_checkpoint, run_of
from fmnist.summary import stage

OPSET = 20
INPUT, OUTPUTS = "pixels", ("logits", "probabilities")
MODEL_VERSION = 1


class Served(nn.Module):
    """What is shipped: raw pixels in, logits and probabilities out."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # (B, H, W) or (B, 3, H, W) uint8 -> 2 × (B, classes) float32
        logits = self.classifier(pixels)
        return logits, logits.softmax(1)


def to_onnx(checkpoint: Checkpoint) -> onnx.ModelProto:
    """The checkpoint's model as a float32 ONNX graph of any batch size; the same bytes each time it is exported.

    Labels, the whole TrainConfig and the data's hashes go into its metadata; the exporter's source lines and paths do not.
    """
    program = torch.onnx.export(
        Served(checkpoint.model.float().cpu()).eval(),
        (torch.zeros(2, *checkpoint.data.problem.image_shape, dtype=torch.uint8),),
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
    model.model_version = MODEL_VERSION
    onnx.helper.set_model_props(
        model,
        {
            "labels": json.dumps(checkpoint.data.classes),
            "train_config": checkpoint.config.to_json(),
            "data": json.dumps({"name": checkpoint.data.name, "sha256": checkpoint.data.sha256}, sort_keys=True),
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes: stack traces with absolute paths, and names of our modules."""
    graph = model.graph
    parts: list[Any] = [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for function in model.functions:
        parts += [function, *function.node, *function.value_info]
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""


def export_checkpoint(folder: Path) -> Path:
    """Export the checkpoint in `folder` into its run; give the ONNX file's path."""
    checkpoint = load_checkpoint(folder)
    return write_bundle(run_of(folder) / "export", to_onnx(checkpoint), checkpoint)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Export a trained model to ONNX: uint8 pixels (batch, H, W) or (batch, 3, H, W) in, logits and probabilities out."""

    run: Annotated[str | None, tyro.conf.Positional] = None
    """Run folder or checkpoint folder; by default the newest run."""


def main(options: ExportOptions) -> None:
    folder = find_checkpoint(options.run)
    with stage(run_of(folder), "export"):
        path = export_checkpoint(folder)
    size = path.stat().st_size / 1e6
    Console().print(
        f"[bold]{path}[/]: {size:.2f} MB, opset {OPSET}, one file; next: python -m export.verify {run_of(folder)}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    command(ExportOptions, main)
