"""SOLAR (arXiv 2312.15166) and iDUS: a deeper model of a model's own layers, then more training.

Two copies of the model, each without some layers at one end, are laid one behind the other (dus) or
woven group by group (interlocked); then all of it trains on. A Mistral becomes a Llama on the way.

Published: 32 layers, 8 left out, 48 in the end, 10,731,524,096 parameters; groups of 8 for iDUS,
which did not train on. What SOLAR read, and how much, is not published: 1B tokens is ours.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from maxlite.recipe import LAPTOP, Adaptation, Size, Step


@dataclass
class Solar(Adaptation):
    sizes: ClassVar = {
        "paper": Size(1e9, 64, 4096),
        "laptop": LAPTOP.of(15_000),
    }

    method: str = "dus"  # or interlocked
    group: int = 0  # interlocked: layers of one copy before the other's turn; 0: a third of a copy
    drop: int = 0  # layers that each copy leaves out; 0: a quarter, as published

    @property
    def depth(self) -> int:
        """Layers of the model."""
        return self.base.num_hidden_layers if self.base else 32

    def plan(self):
        drop = self.drop or self.depth // 4
        group = self.group or (self.depth - drop) // 3
        yield from self.begin()
        yield Step.tool(
            "upscaled",
            "upscale_depth",
            {
                "model": self.named,
                "method": self.method,
                "drop": drop,
                "group": group if self.method == "interlocked" else None,
                "as_llama": not self.base or self.base.model_type == "mistral",
                "out": self.path("upscaled"),
            },
        )
        yield self.judge("untrained", self.path("upscaled"))
        yield self.stage("continued", "solar/continue.py", "upscaled", 1, 1)
        yield from self.end("continued")

    def expects(self):
        if not self.base:
            return {}
        depth = 2 * (self.depth - (self.drop or self.depth // 4))
        deeper = dataclasses.replace(self.base, num_hidden_layers=depth, model_type="llama")
        return {self.path("upscaled"): deeper}


def get_config() -> Solar:
    return Solar()
