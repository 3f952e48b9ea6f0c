"""What there is to choose from: --list-models, --list-recipes."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from fmnist.config import Problem, TrainConfig
from fmnist.models import MODELS, build_model, count_parameters
from fmnist.recipes import RECIPES


def list_models(console: Console) -> None:
    table = Table("network", "parameters", "what it is", box=None, title="--model NAME", title_justify="left", pad_edge=False)
    table.columns[1].justify = "right"
    for name, build in MODELS.items():
        model = build_model(TrainConfig(model=name), Problem(classes=10))
        about = (build.__doc__ or "").strip().split("\n")[0]
        table.add_row(name, f"{count_parameters(model):,}", about)
    console.print(table)


def list_recipes(console: Console) -> None:
    table = Table("recipe", "what for", "config", box=None, title="--recipe NAME", title_justify="left", pad_edge=False)
    for name, recipe in RECIPES.items():
        config = recipe.config
        shown = f"{config.model}, {config.optimizer} lr {config.lr:g}, {config.schedule}, {config.epochs} epochs of batches of "
        about = f"report {recipe.report}: {recipe.about}" if recipe.report else recipe.about
        table.add_row(name, about, f"{shown}{config.global_batch_size}")
    console.print(table)


def show(wanted: dict[Callable[[Console], None], bool]) -> bool:
    """Print the lists that were asked for; say whether there was one."""
    console = Console()
    for print_list, asked in wanted.items():
        if asked:
            print_list(console)
    return any(wanted.values())
