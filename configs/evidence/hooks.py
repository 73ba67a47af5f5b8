"""How far do "frozen" rows move when a hook empties their gradients, as in KoSOLAR's released code?

AdamW decays a weight whether or not it has a gradient (arXiv 1711.05101, algorithm 2).
"""

from dataclasses import dataclass

from maxlite.recipe import Recipe, Step
from maxlite.recipe.steps import PYTHON


@dataclass
class Hooks(Recipe):
    seeds: int = 3

    def plan(self):
        out = f"{self.out or 'OUT'}/runs.json"
        words = ("drift", f"--runs={self.seeds}", f"--json={out}")
        yield Step("drift", (PYTHON, "-m", "tools.benchmark", *words), (out,))


def get_config() -> Hooks:
    return Hooks()
