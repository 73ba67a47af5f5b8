"""Recipes: steps as data, each a command that a user could run by hand, done one after another."""

from maxlite.recipe.steps import Recipe, Step

__all__ = ["Recipe", "Step"]
