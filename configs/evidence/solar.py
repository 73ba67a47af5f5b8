"""SOLAR (arXiv 2312.15166) and iDUS: what does a deeper model begin with, how soon is it better?

The model as it is, and deepened in three ways of the same layers: two copies one behind the other
(DUS), woven in groups, and layer by layer. All of each trains on as many tokens, half of them of
the corpus and half of what the model knows, which are both judged by what is held out of them.
"""

import dataclasses
from dataclasses import dataclass

from maxlite.recipe import Experiment, Step

HALF = 0.5  # of what is read is what the model knows


@dataclass
class Solar(Experiment):
    required = (*Experiment.required, "extended")

    drop: int = 0  # layers that each copy leaves out; 0: a quarter, as published
    group: int = 0  # layers of one copy before the other's turn; 0: half of a copy

    def arms(self):
        drop, depth = self.dropped, self.shape(self.extended).num_hidden_layers
        group = self.group or (depth - drop) // 2
        models = {"as_it_is": self.extended}
        ways = {"dus": None, "groups": group, "single": 1}
        for name, size in ways.items():
            models[name] = self.path(f"model-{name}")
            method = {"method": "interlocked", "group": size} if size else {"method": "dus"}
            given = {"model": self.extended, **method, "drop": drop, "out": models[name]}
            yield Step.tool(f"model-{name}", "upscale_depth", given)
        tokens = self.tokens(self.extended)
        for seed in range(self.seeds):
            for name, model in models.items():
                yield self.trained(
                    name, seed, "solar/continue.py", model, tokens, looks=4, kept=HALF
                )

    @property
    def dropped(self) -> int:
        """Layers that each copy leaves out."""
        return self.drop or self.shape(self.extended).num_hidden_layers // 4

    def expects(self):
        base = self.shape(self.extended)
        depth = 2 * (base.num_hidden_layers - self.dropped)
        deeper = dataclasses.replace(base, num_hidden_layers=depth)
        return {self.path(f"model-{name}"): deeper for name in ("dus", "groups", "single")}


def get_config() -> Solar:
    return Solar()
