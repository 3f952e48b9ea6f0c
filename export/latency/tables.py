"""Tables of latency."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from export.bundle.layout import BENCHMARKED, MANIFEST
from export.latency.measurement import Row
from fmnist.cli import plural
from fmnist.errors import check
from fmnist.runs.files import read_json


def show(rows: Sequence[Row], console: Console) -> None:
    """Print a table for each mode and number of threads, 80 columns wide."""
    eager_us: dict[tuple[str, int, int], float] = {}
    for row in rows:
        if row.backend == "pytorch":
            eager_us[row.mode, row.threads, row.batch] = row.p50_us

    for mode, threads in dict.fromkeys((row.mode, row.threads) for row in rows):
        table = _empty_table(
            f"{mode} on {rows[0].provider}, {plural(threads, 'thread')}; µs, first call ms"
        )
        selected = [row for row in rows if (row.mode, row.threads) == (mode, threads)]
        for row in sorted(selected, key=lambda row: row.batch):
            table.add_row(*_cells(row, eager_us.get((mode, threads, row.batch))))
        console.print(table)
    if any(row.noisy for row in rows):
        console.print("~: the machine did not hold its speed, three times over")


def _empty_table(title: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("backend", no_wrap=True)
    for name in ("batch", "p50", "p90", "p99", "images/s", "first", "p50 ×"):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _cells(row: Row, eager_us: float | None) -> Iterator[str]:
    """The cells of a row; the last, how many times as fast as PyTorch eager, is empty for that."""
    yield row.backend + (" ~" if row.noisy else "")
    yield str(row.batch)
    yield f"{row.p50_us:,.0f}"
    yield f"{row.p90_us:,.0f}"
    yield "–" if row.p99_us is None else f"{row.p99_us:,.0f}"
    yield f"{row.images_per_s:,.0f}"
    yield f"{row.warmup_ms:,.0f}"
    if eager_us is None or row.backend == "pytorch":
        yield ""
    else:
        yield f"[bold]{eager_us / row.p50_us:.2f}[/]"


def comparison(bundles: Sequence[Path]) -> Table:
    """A column for each bundle: p50 by backend, batch and threads, images/s in the other modes,
    and accuracy.

    Raises:
        InputError: a bundle was not measured yet.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "batch", "threads"):
        table.add_column(name, no_wrap=True)

    cells: dict[tuple[str, str, str], dict[Path, str]] = {}
    for bundle in bundles:
        path = bundle / BENCHMARKED
        name = bundle.parent.name
        check(
            path.exists(),
            f"compare={name!r}: not measured yet; python -m export.benchmark {bundle.parent}",
        )
        table.add_column(name, justify="right")
        for row in read_json(path)["rows"]:
            key, value = _compared(row)
            cells.setdefault(key, {})[bundle] = value

    for key, values in cells.items():
        table.add_row(*key, *(values.get(bundle, "") for bundle in bundles))
    table.add_section()
    table.add_row("test accuracy", "", "", *map(_accuracy, bundles))
    return table


def _compared(row: Mapping[str, Any]) -> tuple[tuple[str, str, str], str]:
    """The first three cells of a row of benchmark.json, and its value."""
    mode, threads = row["mode"], str(row["threads"])
    # Offline is at whichever batch size was best, and that differs between bundles.
    batch = "best" if mode == "offline" else str(row["batch"])
    if mode == "single-stream":
        return (f"{row['backend']}, p50 µs", batch, threads), f"{row['p50_us']:,.0f}"
    return (f"{row['backend']}, {mode}, images/s", batch, threads), f"{row['images_per_s']:,.0f}"


def _accuracy(bundle: Path) -> str:
    verified = read_json(bundle / MANIFEST)["verified"]
    return "" if verified is None else f"{verified['onnx_accuracy']:.2%}"
