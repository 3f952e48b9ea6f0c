"""`python -m export.benchmark [RUN]`: measure how fast an exported model answers, beside
PyTorch."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from tyro.conf import arg

from export.bundle.layout import BENCHMARKED, find_bundle
from export.latency import Mode
from export.providers import Provider
from fmnist.cli import Positional, command
from fmnist.errors import check
from fmnist.runs.files import write_json
from fmnist.runs.run_folder import RUNS
from fmnist.runs.summary import stage


@dataclass(frozen=True, kw_only=True)
class BenchmarkOptions:
    """Measure an exported model beside PyTorch: a table, export/benchmark.json, and a chart in
    figures/.

    Example: python -m export.benchmark --compare demo laptop
    """

    run: Annotated[str | None, Positional] = None
    """Run folder or bundle; by default the newest run that has a bundle."""
    provider: Annotated[Provider | None, arg(metavar="{cpu,cuda,tensorrt}")] = None
    """Where they run; by default cuda where PyTorch finds a GPU, else cpu."""
    modes: tuple[Mode, ...] = ("single-stream", "server", "offline")
    """single-stream: a call after the other. server: the highest rate of requests at random
    times of which 99 % are answered in time. offline: the most images a second, at whichever
    batch size."""
    batches: tuple[int, ...] = (1, 32, 256)
    """Batch sizes of single-stream."""
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads; by default 1 and all."""
    server_p99_ms: float = 10.0
    """The time within which server mode answers 99 of 100 requests."""
    min_seconds: float = 3.0
    """Seconds each backend is measured for at each batch size, unless it makes 1,000 calls
    sooner."""
    compiled: bool = True
    """Measure torch.compile too; its first call takes a minute."""
    compare: tuple[str, ...] = ()
    """Show what was measured of these runs side by side, and draw accuracy against latency;
    measure nothing."""

    def __post_init__(self) -> None:
        check(
            bool(self.batches) and min(self.batches) >= 1,
            f"batches={self.batches}: name one or more, each at least 1",
        )
        check(
            all(count >= 1 for count in self.threads),
            f"threads={self.threads}: each must be at least 1",
        )
        check(self.min_seconds >= 0, f"min_seconds={self.min_seconds}: it must be at least 0")
        check(self.server_p99_ms > 0, f"server_p99_ms={self.server_p99_ms}: it must be above 0")
        check(len(self.compare) != 1, f"compare={self.compare}: name two runs or more")


def compare(names: tuple[str, ...], console: Console) -> None:
    """Show what was measured of several runs side by side."""
    # Here: PyTorch and ONNX take seconds to import, and --help does without.
    from export.latency.charts import PARETO, plot_pareto, shipped
    from export.latency.tables import comparison

    bundles = [find_bundle(name) for name in names]
    console.print(comparison(bundles))
    points = [point for bundle in bundles for point in shipped(bundle)]
    if points:
        plot_pareto(points, "the fewest threads measured", RUNS / PARETO)
        console.print(f"accuracy against latency: {RUNS / PARETO}")


def main(options: BenchmarkOptions) -> None:
    # Here: PyTorch and ONNX take seconds to import, and --help does without.
    from export.bundle.integrity import read_manifest
    from export.bundle.writer import load_members, refresh, run_of_bundle
    from export.graph.conversion import averaged
    from export.latency.backends import check_gpu
    from export.latency.charts import plot_latency
    from export.latency.measurement import Workload, measure_bundle, summary_entries
    from export.latency.tables import show
    from export.session import default_provider
    from fmnist.runs.threads import cpu_threads

    console = Console(highlight=False, soft_wrap=True)
    if options.compare:
        compare(options.compare, console)
        return

    bundle = find_bundle(options.run)
    manifest = read_manifest(bundle)
    members = load_members(manifest, run_of_bundle(bundle))
    provider = options.provider or default_provider()
    if members:
        check_gpu(provider)
    model = averaged(members, manifest["average_flips"]) if members else None

    # A GPU is measured with one number of CPU threads, all of them.
    threads = (cpu_threads(),)
    if provider == "cpu":
        threads = options.threads or tuple(sorted({1, cpu_threads()}))
    workload = Workload(
        provider=provider,
        modes=options.modes,
        batches=options.batches,
        threads=threads,
        image=manifest["input"][0]["shape"][1:],
        min_seconds=options.min_seconds,
        server_p99_ms=options.server_p99_ms,
    )

    run = bundle.parent
    with stage(run, "benchmark") as summary:
        rows, results = measure_bundle(bundle, manifest, model, workload, compiled=options.compiled)
        plot_latency(rows, run / "figures/latency.png")
        summary |= summary_entries(rows, workload)
        write_json(bundle / BENCHMARKED, results)
        refresh(bundle)
    show(rows, console)


if __name__ == "__main__":
    command(BenchmarkOptions, main)
