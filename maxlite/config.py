"""What a run is: typed dataclasses, and `resolve`, which checks every value in them.

A config file is Python with a `get_config()` that returns a `Config`. Values that may be absent use
an empty string, zero or an empty tuple, never None, because a flag cannot be set back to None.
(This module must not use `from __future__ import annotations`: the flag reader needs real types.)
"""

import dataclasses
import math
import operator
import typing
from dataclasses import dataclass, field
from typing import Any

from maxlite.errors import InputError, suggestion
from maxlite.mixture import Source, awaits, parsed_later, phases
from maxlite.rules import check_bfloat16, parsed
from maxlite.transforms import Lora, Transform


@dataclass
class Architecture:
    """The shape and the mathematics of a model, under Hugging Face's field names.

    Zero means "derived": `num_key_value_heads` from the attention heads, `head_dim` from the width.
    `rope_type` is `default`, `linear` or `llama3`; the fields after it are read only by those.
    """

    model_type: str = "llama"
    vocab_size: int = 0
    hidden_size: int = 0
    intermediate_size: int = 0
    num_hidden_layers: int = 0
    num_attention_heads: int = 0
    num_key_value_heads: int = 0
    head_dim: int = 0
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_type: str = "default"
    rope_factor: float = 1.0
    rope_low_freq_factor: float = 1.0
    rope_high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 0
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    sliding_window: int = 0  # 0: every earlier token is seen
    initializer_range: float = 0.02
    bos_token_id: int = -1  # -1: none
    eos_token_id: int = -1
    base_rows: int = 0  # vocabulary rows before the latest extension; 0: never extended
    inserted_layers: str = ""  # that an expansion has inserted, such as "4,9"; for rules, in a plan
    lora: Lora = field(default_factory=Lora)

    def __post_init__(self):
        self.num_key_value_heads = self.num_key_value_heads or self.num_attention_heads
        if not self.head_dim and self.num_attention_heads:
            self.head_dim = self.hidden_size // self.num_attention_heads


@dataclass
class Data:
    """Where text comes from and how it becomes tokens."""

    train: tuple[Source, ...] = ()
    eval: tuple[Source, ...] = ()
    order: str = ""  # an order's folder, or a run whose order to follow; then `train` is empty
    held_out: float = 0.0  # share of each training source's documents kept for evaluation, by hash
    txt: str = "line"  # a document of a .txt file is a "line" or the whole "file"
    tokenizer: str = ""  # folder or file; empty: the model's own


@dataclass
class Optimizer:
    """AdamW with decoupled weight decay (arXiv 1711.05101) and a learning-rate schedule."""

    learning_rate: float = 3e-4
    weight_decay: float = 0.1  # norms and biases never decay
    schedule: str = "cosine"  # cosine, linear or constant, after the warm-up
    warmup: float = 0.03  # below 1 a fraction of `steps`, from 1 on a number of steps
    end: float = 0.1  # the last learning rate, as a fraction of the peak
    clip: float = 1.0  # largest global gradient norm; 0: no clipping
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    bfloat16: str = ""  # what of it is held so: moments, gradients, or both, with a comma


@dataclass
class Checkpoint:
    """When the state is saved, and what is kept of it."""

    every: int = 500
    minutes: float = 0.0  # also, when the last save is so long ago; 0: only every so many steps
    keep: int = 2  # the latest so many
    keep_every: int = 0  # and, for ever, each multiple of this step
    copy_base: bool = False  # where a part is frozen: copy the model into the run, not only refer


@dataclass
class Eval:
    """When and on how much held-out text the model is judged, and what it is made to write."""

    every: int = 500  # 0: never
    documents: int = 1000  # at most so many of each set; 0: all
    prompt: str = ""  # a sample is generated from it at each evaluation (empty: from BOS)
    sample_tokens: int = 48  # 0: no sample


@dataclass
class Log:
    """Of the line that is printed and written to metrics.jsonl: after so many steps."""

    every: int = 10


@dataclass
class Config:
    """One stage of training. The command line sets any key with --config.key.sub=value."""

    model: str = ""
    revision: str = ""  # of a model on the hub: a branch, tag or commit; empty: its main branch
    init: tuple[Any, ...] = ()  # of maxlite.transforms
    architecture: Architecture = field(default_factory=Architecture)
    out: str = ""
    steps: int = 1000
    batch_size: int = 8
    seq_len: int = 512
    accumulate: int = 1
    seed: int = 0
    z_loss: float = 0.0  # weight of log(Z)² beside the loss, in training alone (arXiv 2204.02311)
    mesh: str = "fsdp=-1"
    keep_optimizer: bool = False  # go on with the optimizer state of the run that `model` names
    train: str = "everything"  # short names from maxlite.rules, or in a file a tuple of Rules
    dtype: str = "auto"  # of the computation; auto: bfloat16 on GPU and TPU, float32 on CPU
    frozen_dtype: str = ""  # empty: what is frozen keeps the type it is stored in; nf4: see docs
    attention: str = "auto"
    deterministic: bool = False  # on GPUs: the same numbers in every run, bit for bit, but slower
    remat: str = "none"
    data: Data = field(default_factory=Data)
    optimizer: Optimizer = field(default_factory=Optimizer)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    eval: Eval = field(default_factory=Eval)
    log: Log = field(default_factory=Log)
    stuck_minutes: float = 30.0  # without a step or batch, the process ends, status 1; 0: never
    export: str = ""
    export_dtype: str = ""  # empty: the type each tensor had in the source
    export_card: bool = False  # write a model card into the folder, as its README.md


CHOICES: dict[str, tuple[str, ...]] = {
    "dtype": ("auto", "float32", "bfloat16"),
    "frozen_dtype": ("", "float32", "bfloat16", "nf4"),
    "export_dtype": ("", "float32", "bfloat16", "float16"),
    "data.txt": ("line", "file"),
    "optimizer.bfloat16": ("", "moments", "gradients", "moments,gradients"),
    "optimizer.schedule": ("cosine", "linear", "constant"),
    "architecture.model_type": ("llama", "mistral"),
    "architecture.rope_type": ("default", "linear", "llama3"),
}

# key: (smallest, largest); the bounds belong to the range
RANGES: dict[str, tuple[float, float]] = {
    "steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "seq_len": (2, math.inf),
    "accumulate": (1, math.inf),
    "seed": (0, 2**31 - 1),
    "z_loss": (0, math.inf),
    "data.held_out": (0, 0.5),
    "optimizer.learning_rate": (0, math.inf),
    "optimizer.weight_decay": (0, math.inf),
    "optimizer.warmup": (0, math.inf),
    "optimizer.end": (0, 1),
    "optimizer.clip": (0, math.inf),
    "optimizer.beta1": (0, 0.999999),
    "optimizer.beta2": (0, 0.999999),
    "optimizer.eps": (0, 1),
    "checkpoint.every": (1, math.inf),
    "checkpoint.minutes": (0, math.inf),
    "checkpoint.keep": (1, math.inf),
    "checkpoint.keep_every": (0, math.inf),
    "eval.every": (0, math.inf),
    "eval.documents": (0, math.inf),
    "eval.sample_tokens": (0, math.inf),
    "log.every": (1, math.inf),
    "stuck_minutes": (0, 60000),
}


def keys(cls: type = Config, prefix: str = "") -> dict[str, Any]:
    """Every key a command line may name, dotted, with its type."""
    found: dict[str, Any] = {}
    hints = typing.get_type_hints(cls)
    for f in dataclasses.fields(cls):
        kind = hints[f.name]
        if dataclasses.is_dataclass(kind):
            found |= keys(typing.cast(type, kind), f"{prefix}{f.name}.")
        else:
            found[prefix + f.name] = kind
    return found


def get(config: Any, key: str) -> Any:
    """The value at a dotted key."""
    return operator.attrgetter(key)(config)


def put(config: Any, key: str, value: Any) -> None:
    """Sets the value at a dotted key."""
    parent, _, last = key.rpartition(".")
    setattr(get(config, parent) if parent else config, last, value)


def _source(value: Any, key: str) -> Source:
    if isinstance(value, str):
        value = Source(glob=value)
    if not isinstance(value, Source):
        raise InputError(f"config key '{key}' must hold globs or Source(...), not {value!r}")
    _check_names(value, f"{key}.")
    for f in dataclasses.fields(Source):
        setattr(value, f.name, _typed(getattr(value, f.name), f.type, f"{key}.{f.name}"))
    if not value.glob:
        raise InputError(f"config key '{key}' has a source without a glob")
    if value.weight < 0 or value.epochs < 0:
        raise InputError(
            f"config key '{key}': source '{value.glob}' needs a weight and epochs of at least 0, "
            f"not weight={value.weight} and epochs={value.epochs}"
        )
    value.later = parsed_later(value.later, f"{key}.later")
    return value


def _typed(value: Any, kind: Any, key: str) -> Any:
    if kind is float and type(value) is int:
        value = float(value)
    if isinstance(kind, type) and kind is not Any and type(value) is not kind:
        raise InputError(
            f"config key '{key}' must be {kind.__name__}, not {type(value).__name__} {value!r}"
        )
    if kind is float and not math.isfinite(value):
        raise InputError(f"config key '{key}' must be a finite number, not {value}")
    return value


def nearest(key: str, cls: type = Config) -> str:
    """For messages: the key that was probably meant, or all of them."""
    known = list(keys(cls))
    same = [k for k in known if k.split(".")[-1] == key.split(".")[-1]]
    return f"did you mean '{same[0]}'?" if same else suggestion(key, known)


def _check_names(value: Any, prefix: str = "", cls: type = Config) -> None:
    """Refuses attributes that a config file gave to a dataclass that has no such field."""
    known = {f.name for f in dataclasses.fields(value)}
    for name, inner in vars(value).items():
        if name not in known:
            near = nearest(prefix + name, cls)
            raise InputError(f"there is no config key '{prefix}{name}'; {near}")
        if dataclasses.is_dataclass(inner):
            _check_names(inner, f"{prefix}{name}.", cls)


def resolve(config: Any) -> Config:
    """Checks a config as a file returned it and normalises its sources.

    Args:
      config: what `get_config()` returned, overrides applied; changed in place.

    Returns:
      The same object; `data.train` and `data.eval` hold `Source`s.

    Raises:
      InputError: a value of the wrong type, outside its range, or a combination that cannot run.
    """
    if not isinstance(config, Config):
        raise InputError(
            f"get_config() must return a maxlite.config.Config, not {type(config).__name__}"
        )
    _check_nested(config)
    for key, kind in keys().items():
        value = get(config, key)
        if kind == tuple[Source, ...]:
            several = (value,) if isinstance(value, (str, Source)) else value
            if not isinstance(several, (tuple, list)):
                raise InputError(f"config key '{key}' must be a tuple of globs, not {value!r}")
            put(config, key, () if awaits(several) else tuple(_source(v, key) for v in several))
            continue
        if key == "train" and isinstance(value, (tuple, list)):
            put(config, key, parsed(value))
            for i, rule in enumerate(parsed(value)):
                check_fields(rule, f"train[{i}]")
            continue
        value = _typed(value, typing.get_origin(kind) or kind, key)
        put(config, key, value)
        if key == "init":
            for i, transform in enumerate(value):
                _check_transform(transform, i)
        if key == "train":
            parsed(value)
        if key in CHOICES and value not in CHOICES[key]:
            allowed = ", ".join(repr(c) for c in CHOICES[key])
            raise InputError(f"config key '{key}' must be one of {allowed}, not {value!r}")
        if key in RANGES:
            low, high = RANGES[key]
            if not low <= value <= high:
                allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
                raise InputError(f"config key '{key}' must be {allowed}, not {value}")
    _check_together(config)
    return config


def _check_nested(config: Any) -> None:
    """Refuses a part of a config that is something else, or has a field that it has not."""
    cls = type(config)
    for name, kind in typing.get_type_hints(cls).items():
        nested = isinstance(kind, type) and dataclasses.is_dataclass(kind)
        if nested and not isinstance(getattr(config, name), kind):
            raise InputError(f"config key '{name}' must be a {kind.__name__}(...)")
    _check_names(config, cls=cls)


def check_types(config: Any) -> None:
    """Checks the names and types in a config that is another dataclass than `Config`.

    Raises:
      InputError: there is no key of a name, or a value is of another type.
    """
    _check_nested(config)
    for key, kind in keys(type(config)).items():
        put(config, key, _typed(get(config, key), typing.get_origin(kind) or kind, key))


def _check_transform(transform: Any, i: int) -> None:
    if not isinstance(transform, Transform) or type(transform).__module__ != Transform.__module__:
        raise InputError(
            f"config key 'init' holds {transform!r}, which is no transform of maxlite: write"
            " them like Untie(), from maxlite.transforms"
        )
    check_fields(transform, f"init[{i}]")


def check_fields(value: Any, where: str) -> None:
    """Checks the types of a dataclass that a config file made, such as a transform.

    Raises:
      InputError: one is of another type, or there is no such field.
    """
    known = typing.get_type_hints(type(value))
    for name, given in vars(value).items():
        if name not in known:
            raise InputError(f"config key '{where}': {type(value).__name__} has no '{name}'")
        kind = typing.get_origin(known[name]) or known[name]
        setattr(value, name, _typed(given, kind, f"{where}.{name}"))


def _check_together(config: Config) -> None:
    if config.data.train:
        phases(config.data.train)
    if config.data.train and config.data.order:
        raise InputError(
            f"config keys 'data.train' and 'data.order' are both set: the order {config.data.order}"
            " names its sources itself; leave one empty (--config.data.train=)"
        )
    if config.revision and not config.model:
        raise InputError(
            f"config key 'revision' is {config.revision!r}, but 'model' is empty; name a model on"
            " the hub"
        )
    if config.batch_size % config.accumulate:
        raise InputError(
            f"batch_size {config.batch_size} does not divide into accumulate={config.accumulate} "
            "equal micro-batches; change one of them"
        )
    check_bfloat16(config.optimizer.bfloat16, config.optimizer.beta2, parsed(config.train))
    if config.optimizer.warmup >= 1 and config.optimizer.warmup != int(config.optimizer.warmup):
        raise InputError(
            f"optimizer.warmup {config.optimizer.warmup} is neither a fraction below 1 nor a whole "
            "number of steps"
        )
    if warmup_steps(config) > config.steps:
        raise InputError(
            f"optimizer.warmup is {warmup_steps(config)} steps, more than steps={config.steps}"
        )


def warmup_steps(config: Config) -> int:
    """The length of the warm-up in optimizer steps."""
    warmup = config.optimizer.warmup
    return round(warmup * config.steps) if warmup < 1 else int(warmup)


def as_dict(config: Config) -> dict[str, Any]:
    """A JSON-able copy: sources as dicts, transforms as dicts with their name."""
    return dataclasses.asdict(config) | {"init": [t.described() for t in config.init]}
