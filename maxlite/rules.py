"""What trains: rules, and the short names that the field's sets of parameters go by.

A config's `train` is a tuple of rules, or a short name, or several with commas between them. Rules
are tried in order and the first that selects a parameter, a row of a table or a layer claims it.
What none claims is frozen: it gets no gradient, no optimizer state and no weight decay.

    train="new_input_rows, output_rows"                            # KoSOLAR
    train=(Rule("norms", learning_rate=0.1), Rule("layers", layers="odd"))
    train=(Rule("lora_B", learning_rate=16), Rule("lora"))         # LoRA+ (arXiv 2402.12354)
"""

from collections.abc import Sequence
from dataclasses import dataclass

from maxlite.errors import InputError, suggestion


@dataclass
class Rule:
    """Selects parameters and says how they train.

    `select` is one of `TARGETS`, a part of a layer (q_proj, mlp, ...) or a pattern of stacked names
    (`model.layers.*.bias`); several with commas between them. `rows`, for vocabulary tables alone,
    is old, new, or numbers such as "0-31999" or "32000-". `layers` is odd or even (counted from 0;
    "odd from 1" counts from 1), inserted (LLaMA-Pro's), or numbers such as "0-7,24-". Empty means
    all. Ranges include their ends.
    """

    select: str = ""
    rows: str = ""
    layers: str = ""
    trains: bool = True
    learning_rate: float = 1.0  # times the optimizer's, throughout its schedule
    weight_decay: float = -1.0  # instead of the optimizer's; below 0: the optimizer's
    beta1: float = -1.0
    beta2: float = -1.0
    name: str = ""  # in tables; empty: made from the above


BFLOAT16_BETA2 = 0.99

TARGETS: dict[str, str] = {  # names to patterns of stacked names
    "everything": "*",
    "input": "model.embed_tokens.weight",
    "output": "lm_head.weight",
    "final_norm": "model.norm.weight",
    "layers": "model.layers.*",
    "attention": "model.layers.self_attn.*",
    "mlp": "model.layers.mlp.*",
    "norms": "model.layers.*norm.weight",
    **{f"{p}_proj": f"model.layers.self_attn.{p}_proj.*" for p in "qkvo"},
    **{f"{p}_proj": f"model.layers.mlp.{p}_proj.*" for p in ("gate", "up", "down")},
    "lora": "*.lora_*",
    "lora_A": "*.lora_A.weight",
    "lora_B": "*.lora_B.weight",
}

SETS: dict[str, tuple[Rule, ...]] = {
    "everything": (Rule("everything"),),
    # vocabulary
    "new_input_rows": (Rule("input", rows="new"),),
    "new_output_rows": (Rule("output", rows="new"),),
    "new_rows": (Rule("input", rows="new"), Rule("output", rows="new")),
    "old_output_rows": (Rule("output", rows="old"),),
    "input_rows": (Rule("input"),),
    "output_rows": (Rule("output"),),
    "vocabulary": (Rule("input"), Rule("output")),
    # layers
    "body": (Rule("layers, final_norm"),),
    "layers": (Rule("layers"),),
    "odd_layers": (Rule("layers", layers="odd"),),
    "even_layers": (Rule("layers", layers="even"),),
    "inserted_layers": (Rule("layers", layers="inserted"),),
    "attention": (Rule("attention"),),
    "mlp": (Rule("mlp"),),
    "norms": (Rule("norms, final_norm"),),
    # adapters, which belong to their projections too: "layers" trains both
    "lora": (Rule("lora"),),
}


def parsed(train: str | Sequence[Rule]) -> tuple[Rule, ...]:
    """The rules that a config's `train` means.

    Raises:
      InputError: a short name that does not exist, or something that is no rule.
    """
    if not isinstance(train, str):
        wrong = [rule for rule in train if not isinstance(rule, Rule)]
        if wrong or not train:
            raise InputError(
                f"config key 'train' holds {wrong[0]!r}, which is no rule: write Rule(...)"
                if wrong
                else "config key 'train' is empty; name what trains, such as 'everything'"
            )
        return tuple(train)
    names = [name.strip() for name in train.split(",") if name.strip()]
    for name in names:
        if name not in SETS:
            raise InputError(f"config key 'train' has no set '{name}'; {suggestion(name, SETS)}")
    if not names:
        raise InputError("config key 'train' is empty; name what trains, such as 'everything'")
    return tuple(rule for name in names for rule in SETS[name])


def check_bfloat16(bfloat16: str, beta2: float, rules: Sequence[Rule]) -> None:
    """Refuses second moments in bfloat16 that it would hold fast.

    It loses changes below half its spacing, which is up to 2**-7 of a number; a second moment whose
    gradient has stopped falls by 1 - beta2 of itself in a step.

    Args:
      bfloat16, beta2: the optimizer's.
      rules: what trains, some with one of their own.

    Raises:
      InputError: a beta2 above 0.99.
    """
    slowest = max([beta2, *[rule.beta2 for rule in rules]])
    if "moments" in bfloat16 and slowest > BFLOAT16_BETA2:
        raise InputError(
            f"optimizer.bfloat16 holds moments in bfloat16, where a second moment with beta2"
            f" {slowest} never falls: what it loses in a step is rounded away; lower beta2 to"
            f" {BFLOAT16_BETA2}, or leave the moments in float32"
        )
