"""Charts of latency and accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes

from export.bundle.integrity import read_manifest
from export.bundle.layout import BENCHMARKED
from export.latency.measurement import Row
from fmnist.cli import plural
from fmnist.evaluation.plots import GRAY, MARKERS, color, figure, save_figure
from fmnist.runs.files import read_json

PARETO = "pareto.png"


def plot_latency(rows: Sequence[Row], path: Path) -> None:
    """Draw latency against throughput: a line for each backend, a mark for each batch size.

    Of single stream, on the most threads measured.
    """
    fig, axes = figure("Latency and throughput, batch by batch", "p50 of a call, ms", "images/s")
    threads = max(row.threads for row in rows)
    drawn = [row for row in rows if (row.mode, row.threads) == ("single-stream", threads)]
    for number, backend in enumerate(dict.fromkeys(row.backend for row in drawn)):
        line = sorted(
            (row.batch, row.p50_us / 1e3, row.images_per_s)
            for row in drawn
            if row.backend == backend
        )
        _, latencies, throughputs = zip(*line, strict=True)
        style = MARKERS[number % len(MARKERS)] + "-"
        axes.plot(latencies, throughputs, style, color=color(number), label=backend)
        for batch, x, y in line:
            axes.annotate(
                str(batch),
                (x, y),
                textcoords="offset points",
                xytext=(4, -9),
                fontsize=6,
                color=color(number),
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend(fontsize=8, title=f"{plural(threads, 'thread')}; numbers: batch")
    save_figure(fig, path)


class Shipped(NamedTuple):
    """What one can ship: a graph in one precision."""

    name: str
    precision: str
    latency_us: float
    """p50 of one image, single stream, on the fewest threads measured."""
    accuracy: float
    """On the test set. Nothing is selected on it; picking the best of many models overstates it."""


def pareto_front(points: Sequence[Shipped]) -> list[Shipped]:
    """Those that no other beats in both, the quickest first."""
    front: list[Shipped] = []
    # From the quickest on, only what is more accurate than all before is on the front.
    for point in sorted(points, key=lambda point: (point.latency_us, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def plot_pareto(points: Sequence[Shipped], where: str, path: Path) -> None:
    """Draw accuracy against latency.

    The Pareto front is drawn through, and numbered, with a key; of the others float32 is named.

    Args:
        where: what the latency was measured on, in words.
    """
    fig, axes = figure(
        "Which one to ship? Accuracy and latency",
        f"p50 of one image, µs ({where})",
        "test accuracy, %",
        (8.0, 5.0),
    )
    front = pareto_front(points)
    _draw_front(axes, front)
    for number, precision in enumerate(dict.fromkeys(point.precision for point in points)):
        places = [_place(point) for point in points if point.precision == precision]
        axes.scatter(
            *zip(*places, strict=True),
            marker=MARKERS[number % len(MARKERS)],
            color=color(number),
            label=precision,
            s=28,
            zorder=2,
        )
    _name_points(axes, points, front)
    axes.set_xscale("log")
    axes.legend(
        frameon=False,
        loc="lower right",
        fontsize=8,
        title="the line: no other is both quicker and better",
        title_fontsize=8,
    )
    save_figure(fig, path)


def _place(point: Shipped) -> tuple[float, float]:
    return point.latency_us, 100 * point.accuracy


def _draw_front(axes: Axes, front: Sequence[Shipped]) -> None:
    """Draw the line through the Pareto front, and the key to its numbers."""
    x, y = zip(*map(_place, front), strict=True)
    axes.step(x, y, where="post", color=GRAY, linewidth=1, zorder=1)
    key = [
        f"{number}  {point.name}, {point.precision}: "
        f"{point.latency_us:,.0f} µs, {100 * point.accuracy:.2f} %"
        for number, point in enumerate(front, 1)
    ]
    axes.text(0.02, 0.03, "\n".join(key), transform=axes.transAxes, fontsize=7.5)


def _name_points(axes: Axes, points: Sequence[Shipped], front: Sequence[Shipped]) -> None:
    """Write a number at each point of the front, and a name at each other of float32."""
    names = {point: point.name for point in points if point.precision == "float32"}
    for number, point in enumerate(front, 1):
        names[point] = str(number)
    for point, name in names.items():
        axes.annotate(
            name,
            _place(point),
            textcoords="offset points",
            xytext=(4, 4),
            fontsize=6.5,
            fontweight="bold" if point in front else "normal",
        )


def shipped(bundle: Path) -> list[Shipped]:
    """Each precision of a bundle that was verified, and measured with ONNX Runtime one image at a
    time."""
    verified = read_manifest(bundle)["verified"]
    if verified is None:
        return []
    accuracies = {"float32": verified["onnx_accuracy"]}
    for name, variant in verified["variants"].items():
        accuracies[name] = variant["accuracy"]

    rows = [row for row in read_json(bundle / BENCHMARKED)["rows"] if _is_one_image(row)]
    # One number of threads, or points of one picture could not be compared.
    fewest = min((row["threads"] for row in rows), default=0)
    best: dict[str, float] = {}
    for row in rows:
        precision, p50 = row["precision"], row["p50_us"]
        if row["threads"] == fewest and precision in accuracies:
            best[precision] = min(p50, best.get(precision, p50))
    name = bundle.parent.name
    return [Shipped(name, precision, p50, accuracies[precision]) for precision, p50 in best.items()]


def _is_one_image(row: dict[str, object]) -> bool:
    """Whether a row is of ONNX Runtime, one image after the other."""
    one_image = (row["mode"], row["batch"]) == ("single-stream", 1)
    return one_image and str(row["backend"]).startswith("onnxruntime")
