"""RethinkTinyLM (arXiv 2402.02791): which criterion should a small model inherit by?

Makes a smaller model of `model` by each criterion, trains each on text that the model itself has
written, and compares them right after inheriting and at the end with a model of the same shape from
random weights: criteria.html and criteria.json in `out`. What the criteria are measured on, what is
trained on and what is judged on are three texts that have nothing in common.

What the paper found, as others tell it (averages over its benchmarks): random weights 42.06, L1
46.06, L2 47.00, Taylor 47.90, a learned mask 48.08. How its mask was learned is not known.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from maxlite.errors import InputError
from maxlite.hf.folder import open_shape
from maxlite.recipe import Recipe, Step

MEASURED = ("activation", "taylor", "learned")  # on text
TEXTS = {"calibration": 0, "training": 10**6, "judging": 2 * 10**6}  # their first seeds


@dataclass
class Criteria(Recipe):
    required = ("model",)

    model: str = ""  # a Hugging Face folder
    criteria: str = "random,l1,l2,activation,taylor,learned"
    seeds: int = 3  # of each
    ffn_share: float = 0.5  # of the FFN channels that stay
    layers_dropped: int = 1
    layers: str = "ends"  # which stay: for all criteria alike, so that channels are compared
    texts: int = 2000  # that the model writes to train on; a tenth of it to measure and to judge on
    text_tokens: int = 256  # of each, at most
    sequences: int = 64  # that the criteria are measured on
    steps: int = 300
    batch_size: int = 8
    seq_len: int = 128
    learning_rate: float = 1e-3

    def plan(self):
        if not self.model:
            raise InputError("config key 'model' is empty; give --config.model=FOLDER")
        arch, out = open_shape(self.model).architecture, Path(self.out)
        channels = math.ceil(arch.intermediate_size * self.ffn_share)
        depth = arch.num_hidden_layers - self.layers_dropped
        texts = {name: out / f"{name}.jsonl" for name in TEXTS}
        for name, seed in TEXTS.items():
            yield Step.tool(
                name,
                "generate",
                {
                    "model": self.model,
                    "count": self.texts if name == "training" else max(1, self.texts // 10),
                    "temperature": 1,
                    "max_new_tokens": self.text_tokens,
                    "seed": seed,
                    "out": texts[name],
                },
            )
        common = {
            "data.train": texts["training"],
            "data.eval": texts["judging"],
            "data.held_out": 0,
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seq_len": self.seq_len,
            "optimizer.learning_rate": self.learning_rate,
            "eval.every": self.steps,
            "eval.documents": 0,
            "eval.sample_tokens": 0,
            "checkpoint.every": self.steps,
        }
        runs = []
        for criterion in self.criteria.split(","):
            for seed in range(self.seeds):
                name = f"{criterion}-{seed}"
                small = out / "inherited" / name
                text = {"text": texts["calibration"], "sequences": self.sequences}
                measured = text | {"seq_len": self.seq_len} if criterion in MEASURED else {}
                yield Step.tool(
                    f"inherit-{name}",
                    "inherit",
                    {
                        "model": self.model,
                        "intermediate_size": channels,
                        "num_hidden_layers": depth,
                        "layers": self.layers,
                        "criterion": criterion,
                        "seed": seed,
                        **measured,
                        "out": small,
                    },
                )
                runs.append(out / "runs" / name)
                keys = {"model": small, "out": runs[-1], "seed": seed, **common}
                yield Step.train(name, "continue.py", keys)
        shape = {
            "hidden_size": arch.hidden_size,
            "intermediate_size": channels,
            "num_hidden_layers": depth,
            "num_attention_heads": arch.num_attention_heads,
            "num_key_value_heads": arch.num_key_value_heads,
            "head_dim": arch.head_dim,
            "vocab_size": arch.vocab_size,
            "max_position_embeddings": arch.max_position_embeddings,
            "rope_theta": arch.rope_theta,
            "rms_norm_eps": arch.rms_norm_eps,
            "tie_word_embeddings": str(arch.tie_word_embeddings).lower(),
        }
        begun = {f"architecture.{key}": value for key, value in shape.items()}
        for seed in range(self.seeds):
            runs.append(out / "runs" / f"random_weights-{seed}")
            keys = {"out": runs[-1], "seed": seed, "data.tokenizer": self.model, **begun, **common}
            yield Step.train(runs[-1].name, "pretrain.py", keys)
        told = {"out": out / "criteria.html", "json": out / "criteria.json", "spread": True}
        yield Step.tool("compare", "compare_runs", {"runs": tuple(runs), **told})


def get_config() -> Criteria:
    return Criteria()
