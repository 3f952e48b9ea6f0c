"""The experiments of the five course reports."""

from collections import Counter

import pytest

from fmnist.recipes import RECIPES
from fmnist.reports.recipes import ENSEMBLES, EXPERIMENTS, GROUPS, REPORT_RECIPES, TITLES


def test_every_experiment_of_the_reports_is_there() -> None:
    counts = Counter(recipe.report for recipe in REPORT_RECIPES.values() if recipe.reported)
    # A: three networks with a figure, each under two optimisers; B: two networks, as published and
    # as meant; C: one; D: nine and the final one; E: three networks at three rates.
    assert counts == {"A": 6, "B": 4, "C": 1, "D": 10, "E": 9}
    assert all(len(group.class_f1) == 10 for group in GROUPS.values())


def test_every_experiment_belongs_to_a_report() -> None:
    assert {experiment.report for experiment in EXPERIMENTS.values()} == set(TITLES)
    for name, experiment in EXPERIMENTS.items():
        assert name.startswith(f"{experiment.report}-".lower())


def test_members_of_an_ensemble_are_recipes_of_its_report() -> None:
    for ensemble in ENSEMBLES.values():
        assert {REPORT_RECIPES[member].report for member in ensemble.members} == {ensemble.report}


def test_every_recipe_can_be_trained_by_its_name() -> None:
    assert REPORT_RECIPES.items() <= RECIPES.items()


@pytest.mark.parametrize("name", ["a-alexnet-sgd", "a-vgg16-bn"])
def test_shortened_recipes_keep_the_share_of_epochs_before_the_step(name: str) -> None:
    recipe = REPORT_RECIPES[name]
    short = recipe.shortened()
    assert short.epochs == recipe.cpu_epochs < recipe.config.epochs
    share = recipe.config.step_epochs / recipe.config.epochs
    assert short.step_epochs / short.epochs == pytest.approx(share, abs=0.2)


def test_small_recipes_are_not_shortened() -> None:
    recipe = REPORT_RECIPES["e-lenet-0.1"]
    assert recipe.shortened() == recipe.config
