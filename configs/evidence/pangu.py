"""PanGu-pi Pro (arXiv 2402.02791): each step of its ladder, at equal parameters and compute.

From random weights under the whole tokenizer; under one of half the rows, the parameters put into
layers; in a deeper shape; with layers, heads and channels inherited from a larger model that has
learned the text; and then in two rounds, the second of the harder half of the first. Equal compute
is that of training; measuring what matters, and the losses that choose the second round, come on
top.
"""

import dataclasses
from dataclasses import dataclass

from maxlite.config import Architecture
from maxlite.model.flops import flops_per_token
from maxlite.recipe import Experiment, Step
from maxlite.sizes import count, solve

HALF = 0.5  # of what is read is what the model knows
ROUND = 2 / 3  # of the compute that the first round has; the second reads half as much


@dataclass
class PanGu(Experiment):
    required = (*Experiment.required, "extended")

    share: float = 0.45  # of the larger model's parameters
    criterion: str = "activation"  # of what matters
    sequences: int = 64  # that it is measured on

    def arms(self):
        small = self.shapes()
        text = f"{self.corpus},{self.keep}"
        tokens = self.tokens(self.extended)
        yield self.trained("large", 0, "continue.py", self.extended, 3 * tokens, kept=HALF)
        yield from self.compacted(text, small["compact"].vocab_size)
        compute = tokens * flops_per_token(small["random"], self.seq_len)
        inherited = self.path("inherited")
        yield Step.tool(
            "inherited",
            "inherit",
            {
                "model": self.path("compact"),
                **{key: getattr(small["deeper"], key) for key in _SIZES},
                "criterion": self.criterion,
                "text": text,
                "sequences": self.sequences,
                "seq_len": self.seq_len,
                "out": inherited,
            },
        )
        for seed in range(self.seeds):
            for name, shape in small.items():
                reads = compute / flops_per_token(shape, self.seq_len)
                tokenizer = self.extended if name == "random" else self.path("tokenizer")
                begun = {f"architecture__{key}": getattr(shape, key) for key in (*_SIZES, *_MORE)}
                begun |= {"architecture__tie_word_embeddings": "false"}
                given = {**begun, "data__tokenizer": tokenizer}
                yield self.trained(name, seed, "pretrain.py", "", reads, kept=HALF, **given)
            yield self.trained("inherited", seed, "continue.py", inherited, reads, kept=HALF)
            first, rest = reads * ROUND, reads * (1 - ROUND)
            yield self.trained("round1", seed, "continue.py", inherited, first, kept=HALF)
            names = (f"{name}-{seed}" for name in ("round1", "scores", "order"))
            one, scores, order = map(self.path, names)
            scored = {"model": one, "order": one, "out": scores}
            yield Step.tool(f"scores-{seed}", "score_batches", scored)
            drawn = {"scores": scores, "order": one, "fraction": 0.5, "seed": seed, "out": order}
            yield Step.tool(f"order-{seed}", "resample", drawn)
            again = {"data__train": "", "data__eval": "", "data__held_out": 0, "data__order": order}
            yield self.trained("round2", seed, "continue.py", one, rest, **again)

    def compacted(self, text: str, rows: int):
        """The tokenizer's more frequent half, and the larger model with these rows."""
        large, counts = self.path("large-0"), self.path("counts.json")
        tokenizer = self.path("tokenizer")
        counted = {"tokenizer": self.extended, "text": text, "out": counts}
        yield Step.tool("counts", "count_tokens", counted)
        chosen = {"tokenizer": self.extended, "counts": counts, "size": rows, "out": tokenizer}
        yield Step.tool("tokenizer", "compact_tokenizer", chosen)
        kept = {"kept_ids": f"{tokenizer}/kept_ids.txt", "tokenizer": tokenizer}
        yield Step.tool(
            "compact", "compact_vocab", {"model": large, **kept, "out": self.path("compact")}
        )

    def expects(self):
        return {self.path("inherited"): self.shapes()["deeper"]}

    def shapes(self) -> dict[str, Architecture]:
        """Shapes of as many parameters, which differ in their rows and in their depth."""
        large = self.shape(self.extended)
        target, depth = round(count(large) * self.share), large.num_hidden_layers
        rows = large.vocab_size
        wanted = {
            "random": (rows, depth // 2),
            "compact": (rows // 2, depth // 2),
            "deeper": (rows // 2, depth * 3 // 4),
        }
        shared = {"queries_per_kv": large.num_attention_heads // large.num_key_value_heads}
        found = {}
        for name, (size, layers) in wanted.items():
            like = dataclasses.replace(large, vocab_size=size, base_rows=0)
            near = solve(target, like, depth=layers, expansion=8 / 3, **shared, tolerance=1)
            width = near.hidden_size
            while True:  # what inherits has at most the larger model's channels
                shape = solve(target, like, depth=layers, width=width, **shared, tolerance=0.02)
                if name != "deeper" or shape.intermediate_size <= large.intermediate_size:
                    break
                width += near.head_dim * shared["queries_per_kv"]
            found[name] = shape
        return found


_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_MORE = ("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings")


def get_config() -> PanGu:
    return PanGu()
