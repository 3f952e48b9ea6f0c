"""TensorBoard files: a point per epoch, and nothing where nothing was trained."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore

from fmnist.training.metrics import EpochMetrics
from fmnist.training.tensorboard import CHARTS, Board


def metrics(epoch: int, loss: float, validation_loss: float | None = None) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        train_loss=loss,
        train_accuracy=0.5,
        validation_loss=validation_loss,
        validation_accuracy=None,
        lr=0.1,
        images_per_s=1000.0,
        seconds=1.0,
    )


def read_events(file: Path) -> Iterator[Any]:
    """Events of a file: each after its length and a checksum, and before another checksum."""
    content = file.read_bytes()
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        start = position + 12
        yield Event.FromString(content[start : start + length])
        position = start + length + 4


def read_charts(folder: Path) -> dict[str, dict[int, float]]:
    """Value by step of each chart, as TensorBoard shows them."""
    charts: dict[str, dict[int, float]] = {}
    for file in sorted(folder.iterdir()):
        for event in read_events(file):
            # A session that starts at a step takes back what is there from that step on.
            if event.session_log.status == SessionLog.START:
                for points in charts.values():
                    for step in [step for step in points if step >= event.step]:
                        del points[step]
            for value in event.summary.value:
                charts.setdefault(value.tag, {})[event.step] = value.simple_value
    return charts


def test_a_point_for_each_epoch(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.on_epoch(metrics(1, 0.5, validation_loss=0.75))
        board.on_epoch(metrics(2, 0.25, validation_loss=0.5))
    charts = read_charts(tmp_path)
    assert charts["loss/train"] == {1: 0.5, 2: 0.25}
    assert charts["loss/validation"] == {1: 0.75, 2: 0.5}


def test_what_was_not_measured_has_no_chart(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.on_epoch(metrics(1, 0.5))
    assert set(read_charts(tmp_path)) == set(CHARTS) - {"loss/validation", "accuracy/validation"}


def test_points_beyond_the_saved_epochs_are_removed(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.on_epoch(metrics(1, 0.5))
        board.on_epoch(metrics(2, 0.25))
        board.on_epoch(metrics(3, 0.25))

    # A file's name has the second in which it was opened; this one is older.
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "events.out.tfevents.0000000001.here")

    # The states of the later epochs were never saved.
    with Board(tmp_path, epochs_done=1) as board:
        board.on_epoch(metrics(2, 0.125))
    assert read_charts(tmp_path)["loss/train"] == {1: 0.5, 2: 0.125}


def test_no_file_without_a_point(tmp_path: Path) -> None:
    with Board(tmp_path / "board"):
        pass
    assert not (tmp_path / "board").exists()
