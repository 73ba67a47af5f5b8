"""`maxlite.plan`: what stages will cost, from their shapes alone."""

import dataclasses
import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import call, snapshot

from maxlite.config import Architecture, Config, Optimizer, resolve
from maxlite.hf import lazy
from maxlite.model import llama
from maxlite.model.flops import flops_per_token
from maxlite.model.leaves import leaf
from maxlite.model.memory import activation_bytes
from maxlite.plan import GIB, plan
from maxlite.state import run as run_lib
from maxlite.state.claims import claim
from maxlite.state.source import open_model
from maxlite.training.optim import make_optimizer
from maxlite.training.step import State, make_step, new_counters
from maxlite.transforms import Untie, UpscaleDepth

SOLAR = Architecture(
    vocab_size=40_960,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=48,
    num_attention_heads=32,
    num_key_value_heads=8,
    base_rows=32_000,
)
SMALL = Architecture(
    vocab_size=2000,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=4,
    base_rows=1600,
)
STAGE = """
from maxlite.config import Architecture, Config

def get_config():
    return Config(
        architecture=Architecture(
            vocab_size=48, base_rows=40, hidden_size=8, intermediate_size=16,
            num_hidden_layers=4, num_attention_heads=2,
        ),
        steps=3, batch_size=4, seq_len=16, train="{train}",
    )
"""
BODY = 4 * (4 * 8 * 8 + 3 * 8 * 16 + 2 * 8) + 8


@pytest.fixture
def stage(tmp_path):
    """stage(name, train) -> the path of a config file of a tiny shape."""

    def make(name="a", train="new_input_rows"):
        path = tmp_path / f"{name}.py"
        path.write_text(STAGE.format(train=train))
        return path

    return make


def planned(**settings):
    return plan(resolve(Config(**settings)))


def refused(*arguments, said):
    outcome = call("maxlite.plan", *arguments)
    assert all(part in outcome.sentence for part in said), outcome.sentence
    return outcome


def test_the_json_is_what_the_contract_says(stage, tmp_path):
    outcome = call("maxlite.plan", f"--config={stage()}", f"--json={tmp_path / 'p.json'}")
    assert outcome.status == 0, outcome.err
    figures = json.loads((tmp_path / "p.json").read_text())
    count = 2 * 48 * 8 + BODY
    assert list(figures) == [
        *("parameters", "trainable", "trainable_share", "groups", "flops_per_token"),
        *("memory_gib", "remat_suggested"),
    ]
    assert figures["remat_suggested"] == "none" and "remat: none" in outcome.out
    assert figures["parameters"] == count and figures["trainable"] == 64
    assert figures["trainable_share"] == 64 / count
    assert figures["groups"] == [
        {"name": "input new", "parameters": 64, "bytes": 256, "trainable": True},
        {
            "name": "frozen",
            "parameters": count - 64,
            "bytes": 2 * (count - 64),
            "trainable": False,
        },
    ]
    weights = 4 * (4 * 8 * 8 + 3 * 8 * 16) + 48 * 8  # a gradient passes through all of them
    attention = 3 * 4 * 4 * 8 * 8  # layers x products x width x keys seen, forward and twice back
    assert figures["flops_per_token"] == 4 * weights + attention
    memory = figures["memory_gib"]
    assert memory["parameters"] * GIB == 256 + 2 * (count - 64)
    assert memory["optimizer"] * GIB == 8 * 64 and memory["gradients"] * GIB == 4 * 64
    assert memory["total"] == pytest.approx(sum(memory.values()) - memory["total"])
    for said in ("input new: trains", "frozen: frozen", f"{count:,} parameters", "GiB", "FLOPs"):
        assert said in outcome.out
    assert not outcome.err


def test_several_configs_make_a_list_and_a_sum(stage, tmp_path):
    names = f"{stage('a')},{stage('b', 'everything')}"
    file = tmp_path / "p.json"
    outcome = call("maxlite.plan", "--config", names, "--config.steps=5", "--json", file)
    one, other = json.loads(file.read_text())
    assert one["trainable"] == 64 and other["trainable_share"] == 1
    assert "all 2" in outcome.out and "10 steps" in outcome.out  # the override holds for both
    work = 5 * 4 * 16 * (one["flops_per_token"] + other["flops_per_token"])
    assert f"{work:.3g} FLOPs" in outcome.out.splitlines()[-1]


def test_help_and_what_is_refused(stage, tmp_path):
    assert "--json=FILE" in call("maxlite.plan", "--help").out
    config, there = f"--config={stage()}", tmp_path / "there.json"
    there.write_text("mine")
    refused(config, "--topology=v9:8x8", said=["v9:8x8"])
    refused(config, "--jsn=x", said=["--jsn"])
    refused(config, "p.json", said=["p.json"])
    refused(config, "--json=", said=["--json"])
    refused(config, f"--json={there}", said=["exists", "--overwrite"])
    refused(config, f"--json={tmp_path}/no/p.json", said=["folder that does not exist"])
    refused("--config=nonesuch.py", said=["nonesuch.py"])
    refused(f"{config},", said=["without a name"])
    refused(f"{config},{stage()}", said=["twice"])
    refused(said=["no --config"])
    refused(config, "--config.train=nonesuch", said=["nonesuch"])
    refused(config, "--config.remat=nonesuch", said=["remat 'nonesuch'"])
    refused(config, "--config.attention=nonesuch", said=["attention 'nonesuch'"])
    refused(config, "--config.architecture.base_rows=0", said=["which rows are new"])
    refused(config, "--config.architecture.base_rows=49", said=["base_rows 49", "48 rows"])
    assert there.read_text() == "mine"
    assert call("maxlite.plan", config, f"--json={there}", "--overwrite").status == 0
    assert json.loads(there.read_text())["trainable"] == 64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "'model' is empty, and a plan without it needs architecture.hidden_size"),
        ({"model": "no/model"}, "'no/model', which is not on this machine"),
        ({"architecture": dataclasses.replace(SOLAR, vocab_size=0)}, "vocab_size is 0"),
        ({"architecture": dataclasses.replace(SOLAR, num_key_value_heads=5)}, "num_key_value"),
        ({"architecture": SOLAR, "train": "inserted_layers"}, "inserted"),
    ],
)
def test_a_shape_is_needed(changes, said):
    with pytest.raises(Exception, match=said):
        planned(**changes)


def test_the_shapes_of_papers():
    """EEVE-Korean-10.8B and Chinese-LLaMA 7B."""
    eeve = planned(architecture=SOLAR, train="new_input_rows, output_rows")
    assert eeve.parameters == 10_804_924_416
    assert eeve.trainable == (8_960 + 40_960) * 4096
    llama_7b = dataclasses.replace(
        SOLAR,
        vocab_size=49_953,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_key_value_heads=32,
    )
    chinese = planned(architecture=llama_7b, train="input_rows")
    assert chinese.parameters == 6_885_486_592
    assert f"{chinese.figures()['trainable_share']:.2%}" == "2.97%"
    pro = dataclasses.replace(
        llama_7b, vocab_size=32_000, num_hidden_layers=40, inserted_layers="4,9,14,19,24,29,34,39"
    )
    one = planned(architecture=pro, train="inserted_layers")
    assert one.parameters == 8_357_482_496 and one.trainable == 8 * 202_383_360


def test_a_folder_wins_over_the_architecture(tiny_folder, digest):
    folder = tiny_folder(dtype="float16", tie_word_embeddings=True)
    before = digest(folder)
    one = planned(model=str(folder), architecture=SOLAR, train="body")
    assert one.architecture.vocab_size == 400
    assert one.parameters == sum(math.prod(s) for s in open_model(str(folder)).shapes.values())
    assert one.groups[-1] == {
        "name": "frozen",
        "parameters": 400 * 32,
        "bytes": 2 * 400 * 32,
        "trainable": False,
    }
    assert digest(folder) == before
    rounded = planned(model=str(folder), train="body", frozen_dtype="float32")
    assert rounded.groups[-1]["bytes"] == 4 * 400 * 32
    (folder / "model.safetensors").unlink()
    assert planned(model=str(folder), train="body").figures() == one.figures()


def test_what_surgery_has_noted_is_known(tiny_folder):
    folder = tiny_folder(num_hidden_layers=5)
    note = {"vocabulary": {"base_rows": 390}, "layers": {"inserted": [2, 4]}}
    (folder / "maxlite.json").write_text(json.dumps(note))
    assert planned(model=str(folder), train="new_rows").trainable == 2 * 10 * 32
    inserted = planned(model=str(folder), train="inserted_layers").claims.trained
    assert all(list(leaf(name).rows) == [2, 4] for name in inserted)


def test_init_changes_the_shape(tiny_folder):
    folder = tiny_folder(tie_word_embeddings=True, num_hidden_layers=4)
    plain = planned(model=str(folder))
    init = (Untie(), UpscaleDepth(method="dus", drop=1))
    for weights in (True, False):
        changed = planned(model=str(folder), init=init)
        assert changed.architecture.num_hidden_layers == 6
        layer = (plain.parameters - 400 * 32 - 32) // 4
        assert changed.parameters == plain.parameters + 400 * 32 + 2 * layer
        if weights:
            (folder / "model.safetensors").unlink()


def test_a_run_counts_what_was_trained_in_float32(tiny_folder, tmp_path):
    source = open_model(str(tiny_folder(dtype="bfloat16")))
    trained = ["model.embed_tokens.weight[390:400]", "model.layers.mlp.up_proj.weight[1:2]"]
    description = {"config": {}, "order": "", "trained": trained}

    def groups(name, base):
        run = tmp_path / name
        rests_on = (lambda folder: base) if base else None
        run_lib.create(run, description, source.carried, source.dtypes, rests_on)
        return planned(model=str(run), train="output_rows").groups

    first = groups("first", source.base())
    rest = source.host.parameters - 400 * 32
    assert first[-1]["parameters"] == rest
    table, layers = 400 * 32, 2 * 48 * 32  # whole leaves, which take the widest of their rows
    assert first[-1]["bytes"] == 2 * rest + 2 * (table + layers)
    norm = {"model.norm.weight": lazy.zeros((32,), np.dtype(np.float32))}
    after = source.base().inheriting(norm)
    assert groups("second", after)[-1]["bytes"] == first[-1]["bytes"] + 2 * 32
    untold = after.then([UpscaleDepth(layers="0-1")])  # as it was in the source, then
    assert groups("third", untold)[-1]["bytes"] == first[-1]["bytes"]
    description["kind"] = "import"
    assert groups("imported", None)[-1]["bytes"] == 2 * rest
    del description["kind"]
    assert groups("whole", None)[-1]["bytes"] == 4 * rest


def test_nothing_is_placed_and_nothing_written(stage, tmp_path):
    before, arrays = snapshot(tmp_path), len(jax.live_arrays())
    assert call("maxlite.plan", f"--config={stage()}").status == 0
    after = snapshot(tmp_path)
    assert before.keys() | {"a.py"} == after.keys() and len(jax.live_arrays()) == arrays


def test_rules_with_rates_of_their_own_train_more_of_the_optimizer():
    one = planned(architecture=SOLAR, optimizer=Optimizer(), accumulate=4, train="norms")
    memory = one.memory_gib
    assert memory["gradients"] == memory["optimizer"] == 8 * one.trainable / GIB
    assert one.flops_per_token == flops_per_token(SOLAR, 512, one.claims.frozen)


@pytest.mark.parametrize(
    ("train", "remat"),
    [
        ("everything", "full"),
        ("everything", "attention"),
        ("everything", "matmuls"),
        ("new_input_rows", "none"),
    ],
)
def test_activations_are_about_what_the_compiler_takes(train, remat):
    rows, claims = 16, claim(train, SMALL)
    arrays = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in claims.shapes.items()}
    params = {n: arrays[n] for n in claims.trained}
    optimizer = make_optimizer(Config())
    state = State(params, jax.eval_shape(optimizer.init, params), jax.eval_shape(new_counters))
    keys = ("tokens", "targets", "segments", "positions")
    batch = {k: jax.ShapeDtypeStruct((1, rows, 128), jnp.int32) for k in keys}
    batch["weights"] = jax.ShapeDtypeStruct((1, rows, 128), jnp.float32)
    step = jax.jit(make_step(partial(llama.bind, SMALL, remat=remat), optimizer))
    frozen = {n: arrays[n] for n in claims.frozen}
    lowered = step.lower(state, frozen, batch, jax.ShapeDtypeStruct((1,), jnp.int32))
    took = lowered.compile().memory_analysis().temp_size_in_bytes

    gradients = sum(x.size * 4 for x in params.values())
    guess = activation_bytes(SMALL, rows, 128, claims.frozen, remat=remat, itemsize=4)
    assert 0.6 < (guess + gradients) / took < 1.6, (guess, gradients, took)


def test_layers_below_what_trains_keep_nothing():
    def kept(train):
        return activation_bytes(SMALL, 1, 128, claim(train, SMALL).frozen)

    assert kept("output_rows") < kept("even_layers") == kept("everything")
    assert kept("odd_layers") < kept("even_layers")
