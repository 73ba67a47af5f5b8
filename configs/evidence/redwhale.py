"""RedWhale (arXiv 2408.11294): what do four stages bring, each with a part of the optimizer?

The tables, odd layers, even layers, then adapters, a quarter of the text each, beside training
everything at once on as much text.
"""

from dataclasses import dataclass

from maxlite.recipe import Experiment

STAGES = ("tables", "odd", "even", "lora")


@dataclass
class RedWhale(Experiment):
    required = (*Experiment.required, "extended")

    def arms(self):
        tokens = self.tokens(self.extended)
        for seed in range(self.seeds):
            before = self.extended
            for number, name in enumerate(STAGES):
                share, config = tokens / len(STAGES), f"redwhale/{name}.py"
                yield self.trained(name, seed, config, before, share, number)
                before = self.path(f"{name}-{seed}")
            yield self.trained("at_once", seed, "continue.py", self.extended, tokens)


def get_config() -> RedWhale:
    return RedWhale()
