"""`python -m tune.search`: search with ASHA, retrain the winner under Ray Train on all training images, test it once."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from cluster.connect import Resources, cluster
from cluster.job import fit, place
from fmnist.checkpoint import Checkpoint, describe, save_checkpoint
from fmnist.cli import chosen, command
from fmnist.data import DataInfo, Split, find_data, load_info, load_test, load_train, split_train
from fmnist.device import default_device, resolve
from fmnist.errors import InputError, check
from fmnist.evaluate import evaluate
from fmnist.plots import plot_confusion, plot_training
from fmnist.run import RUNS, is_complete, open_run, read_json, write_json
from fmnist.summary import SUMMARY, stage
from tune.asha import Asha, rungs
from tune.live import SearchView, TrialRecord, read_trials, winner
from tune.presets import PRESETS, SearchConfig
from tune.report import plot_search
from tune.space import SPACES, candidates
from tune.trial import run_trial, to_arrays

for name, value in {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is to end the command, not to end the search and go on to the winner
}.items():
    os.environ.setdefault(name, value)

import ray.tune  # noqa: E402  # after the settings that it reads

RETRAIN = "retrain"
DEVICE_PRESET = {"cuda": "gpu", "cpu": "laptop"}


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Search for the best config with ASHA under Ray Tune; retrain the winner under Ray Train; test it once.

    Bare, it takes the preset for the device found: laptop on a CPU (hours), gpu on a GPU. Example of a few minutes on a CPU:
    python -m tune.search --preset demo
    """

    preset: str | None = None
    """demo, laptop or gpu: its values are the defaults of the flags below."""
    name: str | None = None
    """Name of the run folder, runs/NAME; by default the time."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with runs/NAME: no trial that is done runs again."""
    data: str | None = None
    """Folder with the four files of the MNIST format; by default Fashion-MNIST is found or fetched."""
    address: str | None = None
    """Ray cluster to join, such as auto or ray://host:10001; by default one is started on this machine."""
    search: Annotated[SearchConfig, tyro.conf.arg(name="")]


def main(options: SearchOptions) -> None:
    console = Console()
    if is_complete(options.name, options.resume):
        run = RUNS / str(options.name)
        console.print(f"{run} is complete: nothing to do; see python -m fmnist.summary {run}", highlight=False, soft_wrap=True)
        return
    config = options.search
    folder = find_data(options.data)
    info, train = load_info(folder), load_train(folder)
    mine = {"search": config.to_dict(), **describe(resolve(config.base, default_device()), info)}
    if options.resume and options.name:
        _check_same(RUNS / options.name / "config.json", mine)
    with cluster(options.address) as resources:
        run = open_run(options.name, resume=options.resume)
        write_json(run / "config.json", mine)
        best = search(run, config, train, info, resources, console)
        retrain(run, config, best, train, load_test(folder), info, resources, console)
    accuracy = read_json(run / SUMMARY)["test_accuracy"]
    console.print(
        f"test accuracy {accuracy:.2%}; saved in {run / 'best'}; next: python -m export.to_onnx {run}",
        highlight=False,
        soft_wrap=True,
    )


def search(run: Path, config: SearchConfig, train: Split, info: DataInfo, resources: Resources, console: Console) -> TrialRecord:
    """Run the trials that are not done yet; give the winner.

    Raises:
        InputError: no trial gave a result.
    """
    journal = run / "search/trials.jsonl"
    done = read_trials(journal)
    found_before = {record.number for record in done}
    todo = [
        {"number": number, "candidate": candidate}
        for number, candidate in enumerate(candidates(SPACES[config.space], config.trials, config.search_seed))
        if number not in found_before
    ]
    if todo and not (run / RETRAIN).exists():  # once the winner is chosen, the search is closed
        with stage(run, "search"):
            done = _run_trials(run, config, todo, done, train, info, resources, console)
    best = winner(done)
    if best is None:
        reasons = "; ".join(sorted({record.outcome for record in done})) or "no trial started within the time budget"
        raise InputError(f"no trial gave a result ({reasons}); see {journal}")
    plot_search(done, run / "figures/search.png")
    return best


def _run_trials(
    run: Path,
    config: SearchConfig,
    todo: list[dict[str, Any]],
    done: list[TrialRecord],
    train: Split,
    info: DataInfo,
    resources: Resources,
    console: Console,
) -> list[TrialRecord]:
    base = config.base
    on_gpu = resources.gpus > 0
    if not on_gpu and not base.threads:
        base = base.replace(threads=1)
    share: dict[str, float] = {"cpu": base.threads or 1} | ({"gpu": config.gpus_per_trial} if on_gpu else {})
    fitting = int(resources.gpus / config.gpus_per_trial) if on_gpu else resources.cpus // (base.threads or 1)
    at_once = min(config.concurrent_trials or fitting, fitting)
    check(at_once >= 1, f"base.threads={base.threads}: the cluster has {resources.cpus} CPU threads")
    shown_rungs = ", ".join(map(str, rungs(config.grace_epochs, config.reduction_factor, base.epochs))) or "none"
    training, validation = split_train(train, validation_images=base.validation_images, train_images=base.train_images)
    assert validation is not None
    limit = f", at most {config.time_budget_s:.0f} s" if config.time_budget_s else ""
    console.print(
        f"[bold]{run}[/]: {len(todo)} trials of up to {base.epochs} epochs on {len(training):,} images, rungs at {shown_rungs}, "
        f"{at_once} at once on {resources}{limit}",
        highlight=False,
        soft_wrap=True,
    )
    scheduler = Asha(config.grace_epochs, config.reduction_factor, base.epochs, (r.curve for r in done))
    view = SearchView(run / "search/trials.jsonl", base, config.trials, done, scheduler, console)
    trainable = ray.tune.with_resources(
        ray.tune.with_parameters(
            run_trial, base=base, train=to_arrays(training), validation=to_arrays(validation), classes=len(info.classes)
        ),
        share,
    )
    tuner = ray.tune.Tuner(
        trainable,
        param_space={"trial": ray.tune.grid_search(todo)},
        tune_config=ray.tune.TuneConfig(
            scheduler=scheduler,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            time_budget_s=config.time_budget_s or None,
            trial_dirname_creator=lambda trial: f"trial_{trial.config['trial']['number']:04}",
        ),
        run_config=ray.tune.RunConfig(name="search", storage_path=str(run.absolute()), callbacks=[view], verbose=0),
    )
    with view:
        tuner.fit()
    return list(view.records.values())


def retrain(
    run: Path,
    config: SearchConfig,
    best: TrialRecord,
    train: Split,
    test: Split,
    info: DataInfo,
    resources: Resources,
    console: Console,
) -> None:
    """Train the winner on all training images under Ray Train, its schedule frozen; test it once; save it to best/."""
    final = best.config.replace(
        train_images=0, validation_images=0, epochs=config.retrain_epochs or best.config.epochs, threads=config.base.threads
    )
    placement = place(resources)
    console.print(
        f"winner: trial {best.number}, validation {best.curve[-1]:.2%}; retrained on all {len(train):,} images by {placement}",
        highlight=False,
        soft_wrap=True,
    )
    with stage(run, "retrain") as found:
        trained = fit(
            final,
            train,
            None,
            classes=len(info.classes),
            placement=placement,
            folder=run / RETRAIN,
            title="winner",
            console=console,
        )
        metrics = evaluate(Checkpoint(trained.model, trained.config, info, {}), test, default_device())
        plot_training(trained.history, run / "figures/training.png")
        plot_confusion(metrics["confusion"], info.classes, run / "figures/confusion.png")
        record = {"validation_accuracy": best.curve[-1], "trial": best.number, "test": metrics, "epochs": trained.history}
        found |= {
            "validation_accuracy": best.curve[-1],
            "trial_images": config.base.train_images or len(train) - config.base.validation_images,
            "test_accuracy": metrics["accuracy"],
            "test_images": metrics["images"],
            "config": trained.config.to_dict(),
        }
    # After the summary: the weights say that the run is complete, so nothing may be missing once they are there.
    save_checkpoint(run / "best", trained.model.cpu(), trained.config, info, record)


def _check_same(path: Path, mine: dict[str, Any]) -> None:
    """Raise InputError unless the run to be resumed, if there is one, was started with the same configuration."""
    if not path.exists():
        return
    saved = read_json(path)
    for part in ("search", "train"):
        for key, value in mine[part].items():
            was = saved[part].get(key)
            check(
                was == value, f"{key}={value!r}: {path.parent} was started with {was!r}; resume with that, or choose another --name"
            )


if __name__ == "__main__":
    preset = chosen("--preset", PRESETS, DEVICE_PRESET[default_device().type])
    command(SearchOptions, main, default=SearchOptions(search=preset))
