"""`python -m tune.search`: search with ASHA, retrain the winner under Ray Train, test it once."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from fmnist.cli import Flag, Presets, Topics, command
from fmnist.config import TrainConfig, topic
from fmnist.data.sources import NOT_NAMED, Source
from fmnist.errors import check, one_of
from fmnist.runs.files import read_json, write_json
from fmnist.runs.lock import hold
from fmnist.runs.run_folder import CONFIG, is_complete, open_run, saved_config
from fmnist.runs.summary import SUMMARY, read_summary
from tune.presets import PRESETS, SearchConfig
from tune.tracking import Tracker, check_uri, connect, uri_of

if TYPE_CHECKING:
    from cluster.storage import Storage
    from tune.setup import SearchTask

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
RENAMED = {"--base.": "--train.", "--time-budget": "--time-budget-min"}


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Search for the best config with ASHA under Ray Tune; retrain the winner under Ray Train; test
    it once.

    Bare, it takes the preset for the device found: laptop on a CPU (hours), gpu on a GPU. Example
    of a few minutes on a CPU: python -m tune.search --preset demo
    """

    preset: str | None = None
    """demo, laptop or gpu: its values are the defaults of the flags below."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, Flag] = False
    """Go on with runs/NAME, or with the newest search that is not complete: no trial that is done
    runs again."""
    dry_run: Annotated[bool, Flag] = False
    """Show the plan, measured on a few batches, and stop."""
    price_per_hour: float = 0.0
    """Price of an hour of each node, in any currency: the plan then says what the search costs."""
    verbose: Annotated[bool, Flag] = False
    """Show what Ray prints, and a line per trial in place of the live table."""
    list_spaces: Annotated[bool, Flag] = False
    """Show the built-in search spaces, and stop."""
    list_models: Annotated[bool, Flag] = False
    """Show the networks, and stop."""
    mlflow: str | None = None
    """Track the search in MLflow too: sqlite (the file mlflow.db beside the runs), or
    http://HOST:PORT of a server."""
    address: str | None = topic("cluster", None)
    """Ray cluster to join: auto or HOST:6379, on one of its nodes; by default one is started on
    this machine."""
    storage: str | None = topic("cluster", None)
    """Where the run folder is kept: a folder that all nodes share, or s3://BUCKET/PREFIX. By
    default runs/, for one machine."""
    source: Annotated[Source, Topics()] = NOT_NAMED
    search: Annotated[SearchConfig, Topics()] = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        check_uri(self.mlflow)
        price = self.price_per_hour
        check(price >= 0, f"price_per_hour={price}: it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class SearchPreset:
    """The flags that decide the defaults of the others."""

    preset: str | None = None
    name: str | None = None
    resume: Annotated[bool, Flag] = False
    storage: str | None = None


def default_options(flags: SearchPreset) -> SearchOptions:
    """The preset's values, or those that the search to be resumed was started with."""
    saved = None
    if flags.resume and flags.preset is None:
        from cluster.storage import open_storage  # here: PyTorch and PyArrow take seconds

        storage = open_storage(flags.storage)
        saved = saved_config(storage.run_to_resume(flags.name, "search"))
    if saved is not None:
        check("search" in saved, "--resume: the run is no search; name one with --name")
        train = TrainConfig.from_dict(saved["train"])
        return SearchOptions(search=SearchConfig.from_dict(saved["search"], train))

    name = flags.preset or preset_of_device()
    one_of("--preset", name, PRESETS)
    return SearchOptions(search=PRESETS[name])


def preset_of_device() -> str:
    """gpu where PyTorch finds one, else laptop."""
    if not NVIDIA_DRIVER.exists():
        return "laptop"
    from fmnist.training.device import default_device  # here: PyTorch takes seconds to import

    return "gpu" if default_device().type == "cuda" else "laptop"


def main(options: SearchOptions) -> None:
    # Here: PyTorch and Ray take seconds to import, and --help does without.
    from cluster.storage import open_storage
    from fmnist.listing import list_models, show
    from tune.setup import make_task
    from tune.space import list_spaces

    if show({list_spaces: options.list_spaces, list_models: options.list_models}):
        return
    console = Console(highlight=False, soft_wrap=True)
    storage = open_storage(options.storage)
    resumed = storage.run_to_resume(options.name, "search") if options.resume else None
    if is_complete(resumed):
        console.print(
            f"{resumed} is complete: nothing to do; see python -m fmnist.summary {resumed}"
        )
        return
    if resumed is not None:
        hold(resumed)
    task = make_task(options.search, options.source, resumed, storage)
    run_search(options, task, storage, resumed, console)


def run_search(
    options: SearchOptions,
    task: "SearchTask",
    storage: "Storage",
    resumed: Path | None,
    console: Console,
) -> None:
    """Join or start Ray; plan, search, retrain the winner, and write the report."""
    from cluster.connect import cluster
    from cluster.nodes import check_nodes
    from fmnist.data.dataset import load_test
    from tune.engine.run import Surroundings, search
    from tune.page.assemble import write_report
    from tune.setup import SearchSetup, show_plan
    from tune.winner import retrain

    uri = uri_of(options.mlflow, resumed, storage.runs)
    tracking = None
    if uri is not None and not options.dry_run:
        tracking = (*connect(uri), uri)

    ddp_trials = options.search.workers_per_trial > 0
    with cluster(options.address, verbose=options.verbose, dashboard=ddp_trials) as resources:
        if options.address is not None:
            check_nodes(storage)
        setup = SearchSetup(task, resources, storage)
        if options.dry_run:
            plan = setup.plan(setup.pack(console), console)
            show_plan(setup, plan, "plan", options.price_per_hour, console)
            return

        name = resumed.name if resumed else options.name
        run = open_run(name, resume=options.resume, runs=storage.runs)
        with storage.mirrored(run, console.print) as push:
            described = task.describe()
            write_json(run / CONFIG, described)
            tracker = None
            if tracking is not None:
                tracker = Tracker(*tracking, run, described["search"], console)
            around = Surroundings(console, options.verbose, push, tracker)

            best = search(run, setup, around, options.price_per_hour)
            write_report(run)
            retrain(run, setup, best, load_test(task.folder, task.info), console)
            report = write_report(run)
            if tracker is not None:
                tracker.end(read_summary(run), report)

    accuracy = read_json(run / SUMMARY)["test_accuracy"]
    console.print(
        f"test accuracy {accuracy:.2%}; saved in {run / 'best'}, explained in {report}; "
        f"next: python -m export.to_onnx {run}"
    )


if __name__ == "__main__":
    command(
        SearchOptions,
        main,
        presets=Presets(SearchPreset, default_options),
        renamed=RENAMED,
    )
