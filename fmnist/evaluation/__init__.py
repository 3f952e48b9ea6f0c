"""Evaluate trained models: metrics, ensembles, comparisons, figures."""

from typing import Literal

SplitName = Literal["validation", "test"]
Combine = Literal["average", "vote"]
