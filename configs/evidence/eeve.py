"""EEVE-Korean and KoSOLAR (arXiv 2402.14714): what do new pieces, stages and frozen rows bring?

Three ways to learn the corpus from as many bytes of it: the seven stages, everything at once on the
extended model, and everything at once on the model as it was; from the corpus alone, and from nine
parts of it to one of what the model knows. Then KoSOLAR's single stage in four
forms: old input rows frozen (its first finding: crucial) or not, old output rows trained (its
second: helps) or not; new rows train in all.
"""

from dataclasses import dataclass

from maxlite.recipe import Experiment

SHARES = (0.2, *[0.8 / 6] * 6)  # of the text, by stage, as eeve/recipe.py has them
MIXED = 0.1  # of what is read is what the model knows, in a second trial of the three
KOSOLAR = {
    "frozen_trained": "new_input_rows, output_rows",  # old input rows, old output rows
    "frozen_frozen": "new_rows",
    "trained_trained": "vocabulary",
    "trained_frozen": "input_rows, new_output_rows",
}


@dataclass
class Eeve(Experiment):
    required = (*Experiment.required, "extended")

    def arms(self):
        new, old = self.tokens(self.extended), self.tokens(self.model)
        for seed in range(self.seeds):
            for kept, more in ((0.0, ""), (MIXED, "_mixed")):
                before, mixed = self.extended, {"kept": kept}
                for number, share in enumerate(SHARES, 1):
                    name, config = f"stage{number}{more}", f"eeve/stage{number}.py"
                    yield self.trained(name, seed, config, before, new * share, number, **mixed)
                    before = self.path(f"{name}-{seed}")
                whole = {
                    f"at_once{more}": (self.extended, new),
                    f"as_it_was{more}": (self.model, old),
                }
                for name, (model, tokens) in whole.items():
                    yield self.trained(name, seed, "continue.py", model, tokens, **mixed)
            for name, train in KOSOLAR.items():
                one = "kosolar/stage1.py"
                yield self.trained(name, seed, one, self.extended, new, train=train)


def get_config() -> Eeve:
    return Eeve()
