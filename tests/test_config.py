"""`resolve`: every kind of wrong value becomes one sentence that names the key."""

import dataclasses
import math

import pytest

from maxlite import config as config_lib
from maxlite.config import (
    CHOICES,
    RANGES,
    Architecture,
    Config,
    Data,
    Optimizer,
    Source,
    keys,
    resolve,
    warmup_steps,
)
from maxlite.errors import InputError


def refused(config, *said):
    """`resolve` refuses it in one sentence that holds every one of `said`."""
    with pytest.raises(InputError) as caught:
        resolve(config)
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text, text


def with_key(key, value):
    config = Config()
    config_lib.put(config, key, value)
    return config


def test_the_defaults_resolve_and_there_are_not_too_many():
    assert resolve(Config()) == Config()
    assert len(keys()) < 80
    assert keys()["optimizer.learning_rate"] is float
    assert keys()["data.train"] == tuple[Source, ...]
    assert "data" not in keys()


def test_every_choice_and_range_is_about_a_key_and_allows_its_default():
    for key in (*CHOICES, *RANGES):
        assert key in keys()
    for key, allowed in CHOICES.items():
        assert config_lib.get(Config(), key) in allowed


WRONG_TYPES = {int: (1.0, "1", True, None), float: ("1", True, None), str: (1, None, b"x")}
WRONG_TYPES[bool] = (1, 0, "true", None)


@pytest.mark.parametrize("key", [k for k, kind in keys().items() if kind in WRONG_TYPES])
def test_a_wrong_type_is_refused_at_every_key(key):
    kind = keys()[key]
    for value in WRONG_TYPES[kind]:
        refused(with_key(key, value), f"'{key}'", kind.__name__, repr(value))


def test_a_whole_number_is_a_fine_float():
    config = resolve(with_key("optimizer.learning_rate", 1))
    assert type(config.optimizer.learning_rate) is float


@pytest.mark.parametrize("key", [k for k, kind in keys().items() if kind is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_only_finite_numbers(key, value):
    refused(with_key(key, value), f"'{key}'", "finite")


@pytest.mark.parametrize("key", RANGES)
def test_ranges_hold_their_bounds_and_nothing_beyond(key):
    kind = keys()[key]
    low, high = RANGES[key]
    beyond = {low - 1} | ({high + 1} if math.isfinite(high) else set())
    for value in beyond:
        refused(with_key(key, kind(value)), f"'{key}'", str(kind(value)), str(low))
    at_bounds = {low} | ({high} if math.isfinite(high) else set())
    for value in at_bounds:
        resolve(with_key(key, kind(value)))


@pytest.mark.parametrize("key", CHOICES)
def test_choices_are_listed(key):
    refused(with_key(key, "nonesuch"), f"'{key}'", "'nonesuch'", *map(repr, CHOICES[key]))


@pytest.mark.parametrize("value", [None, {}, 3, Data(), Optimizer])
def test_a_section_must_be_its_dataclass(value):
    refused(with_key("optimizer", value), "'optimizer'", "Optimizer(")


@pytest.mark.parametrize("value", [None, {"steps": 1}, 3, Config, Data()])
def test_a_config_must_be_a_config(value):
    refused(value, "maxlite.config.Config", type(value).__name__)


@pytest.mark.parametrize(
    ("section", "name", "meant"),
    [
        ("", "stepz", "steps"),
        ("optimizer", "learning_rat", "optimizer.learning_rate"),
        ("optimizer", "keep", "checkpoint.keep"),
    ],
)
def test_an_attribute_that_is_no_key_is_refused(section, name, meant):
    """A config file may set any attribute of a dataclass; it would be without effect."""
    config = Config()
    setattr(config_lib.get(config, section) if section else config, name, 1)
    refused(config, f"'{section}.{name}'".replace("'.", "'"), f"'{meant}'")


def test_globs_become_sources():
    config = Config(data=Data(train="a/*.txt", eval=["b.txt", Source("c.txt", 2, "c")]))
    resolve(config)
    assert config.data.train == (Source("a/*.txt"),)
    assert config.data.eval == (Source("b.txt"), Source("c.txt", 2.0, "c"))
    assert type(config.data.eval[1].weight) is float


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (3, "tuple of globs"),
        (None, "tuple of globs"),
        ((3,), "globs or Source"),
        (("",), "without a glob"),
        ((Source("a", weight=0.0),), "weight 0 from step 0"),
        ((Source("a", weight=0), Source("b", later=((9, 0),))), "weight 0 from step 9"),
        ((Source("a", later=(9, 0.5)),), "later"),
        ((Source("a", later=((9, 0.5), (9, 1.0))),), "later"),
        ((Source("a", weight=-1.0),), "weight"),
        ((Source("a", weight=math.inf),), "finite"),
        ((Source("a", weight="1"),), "weight"),
        ((Source("a", epochs=-1.0),), "epochs"),
        ((Source(glob=3),), "glob"),
    ],
)
def test_a_source_must_make_sense(train, said):
    refused(Config(data=Data(train=train)), "'data.train", said)


def test_weights_that_change():
    several = (Source("a", 0, later=[[9, 2]]), Source("b"))
    config = resolve(Config(data=Data(train=several)))
    assert config.data.train == (Source("a", 0.0, later=((9, 2.0),)), Source("b"))


def test_an_order_names_its_sources_itself():
    refused(Config(data=Data(train=("a",), order="b")), "'data.train'", "'data.order'")
    resolve(Config(data=Data(order="b")))


def test_a_source_has_only_its_fields():
    source = Source("a")
    source.wieght = 3
    refused(Config(data=Data(train=(source,))), "'data.train.wieght'")


def test_init_has_no_transforms_yet():
    refused(Config(init=("Untie",)), "'init'")
    refused(Config(init=["Untie"]), "'init'", "tuple")


def test_what_must_fit_together():
    refused(Config(batch_size=8, accumulate=3), "batch_size 8", "accumulate=3")
    refused(Config(batch_size=2, accumulate=4), "batch_size 2", "accumulate=4")
    refused(Config(optimizer=Optimizer(warmup=1.5)), "optimizer.warmup 1.5")
    refused(Config(steps=9, optimizer=Optimizer(warmup=10)), "10 steps", "steps=9")
    resolve(Config(steps=10, optimizer=Optimizer(warmup=10)))
    resolve(Config(batch_size=8, accumulate=8))


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"),
    [(0, 50, 0), (0.1, 50, 5), (0.999, 10, 10), (1, 50, 1), (7, 50, 7)],
)
def test_warmup_is_a_fraction_below_one_and_steps_from_there(warmup, steps, expected):
    config = resolve(Config(steps=steps, optimizer=Optimizer(warmup=warmup)))
    assert warmup_steps(config) == expected


def test_derived_sizes():
    arch = Architecture(hidden_size=64, num_attention_heads=8)
    assert (arch.num_key_value_heads, arch.head_dim) == (8, 8)
    arch = Architecture(hidden_size=64, num_attention_heads=8, num_key_value_heads=2, head_dim=4)
    assert (arch.num_key_value_heads, arch.head_dim) == (2, 4)


def test_a_config_is_json():
    config = resolve(Config(data=Data(train=("a b.txt",))))
    found = config_lib.as_dict(config)
    assert found["data"]["train"][0] == dataclasses.asdict(Source("a b.txt"))
    assert found["optimizer"]["learning_rate"] == 3e-4


def test_shipped_configs_resolve():
    """They leave out only what a user must give."""
    from maxlite import flags

    for path in sorted((flags._HERE / "configs").rglob("*.py")):
        if "-> Config:" in path.read_text("utf-8"):  # not a cleaning, nor a recipe
            config, _ = flags.parse([f"--config={path}"])
            assert not config.model and not config.out
            assert config.optimizer.warmup < 1
