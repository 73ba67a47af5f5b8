"""Recipes: steps as data, each a command that a user could run by hand, done one after another."""

from maxlite.recipe.adaptation import LAPTOP, Adaptation, Size
from maxlite.recipe.experiment import Experiment
from maxlite.recipe.steps import Recipe, Step

__all__ = ["LAPTOP", "Adaptation", "Experiment", "Recipe", "Size", "Step"]
