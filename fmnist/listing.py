"""Tables of what there is to choose from: --list-models, --list-recipes."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from fmnist.config import Problem, TrainConfig
from fmnist.models import MODELS, build_model, builder_of, count_parameters
from fmnist.recipes import RECIPES


def list_models(console: Console) -> None:
    """Print the networks, their size for Fashion-MNIST, and a line on each."""
    table = Table(box=None, pad_edge=False, title="--model NAME", title_justify="left")
    table.add_column("network", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("what it is")

    for name in MODELS:
        # Built to count its parameters; all take under a second.
        model = build_model(TrainConfig(model=name), Problem(classes=10))
        docstring = builder_of(name).__doc__ or ""
        about = docstring.strip().partition("\n")[0]

        table.add_row(name, f"{count_parameters(model):,}", about)

    console.print(table)


def list_recipes(console: Console) -> None:
    """Print the recipes, what each is for, and the most important values."""
    table = Table(box=None, pad_edge=False, title="--recipe NAME", title_justify="left")
    table.add_column("recipe", no_wrap=True)
    table.add_column("what for")
    table.add_column("config")

    for name, recipe in RECIPES.items():
        about = recipe.about
        if recipe.report is not None:
            about = f"report {recipe.report}: {about}"

        config = recipe.config
        values = (
            f"{config.model}, {config.optimizer} lr {config.lr:g}, {config.schedule}, "
            f"{config.epochs} epochs of batches of {config.global_batch_size}"
        )
        table.add_row(name, about, values)

    console.print(table)


def show(wanted: dict[Callable[[Console], None], bool]) -> bool:
    """Print the lists that were asked for; tell whether there was one."""
    console = Console()
    for print_list, asked in wanted.items():
        if asked:
            print_list(console)
    return any(wanted.values())
