"""Training a part: what is frozen keeps every byte, whatever happens, and stages chain."""

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorstore as ts
from commands import call, finish, metrics, run, snapshot, start, status, step_reached, strike
from frozen import check_moved, moved, weights
from safetensors.numpy import save_file
from several import start_alike

from maxlite.config import Architecture, Config, Optimizer
from maxlite.model.leaves import leaf
from maxlite.model.llama import bind, initialize, shapes
from maxlite.rules import Rule
from maxlite.state.claims import claim
from maxlite.training import optim
from maxlite.training import step as step_lib

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source
from maxlite.rules import Rule
from maxlite.transforms import UpscaleDepth


def get_config():
    return Config(
        model="{here}/model",
        init={init},
        train={train!r},
        steps={steps},
        batch_size=24,
        seq_len=32,
        accumulate=3,
        data=Data(train=(Source("{here}/text/xx.txt", name="xx"),), held_out=0.1),
        optimizer=Optimizer(
            learning_rate=1e-2, warmup=0.0, weight_decay=0.1, clip=0.05, schedule="constant"
        ),
        checkpoint=Checkpoint(every=2),
        eval=Eval(every={steps}, documents=10, sample_tokens=2),
        log=Log(every=1),
    )
"""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BASE, ROWS = 360, 400


def layer(name: str) -> int:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else -1


# What each set may change: a tensor of the exported folder to its rows, None for none of them.
MOVES = {
    "new_input_rows": lambda n: range(BASE, ROWS) if n == EMBEDDING else None,
    "new_input_rows, output_rows": lambda n: (
        range(BASE, ROWS) if n == EMBEDDING else range(ROWS) if n == HEAD else None
    ),
    "new_rows": lambda n: range(BASE, ROWS) if n in (EMBEDDING, HEAD) else None,
    "odd_layers": lambda n: range(9999) if layer(n) in (1, 3) else None,
    "norms": lambda n: range(9999) if "norm" in n else None,
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    """A folder with text/ and model/: four layers in bfloat16, rows from 360 on are new."""
    here = tmp_path_factory.mktemp("desk")
    make_folder(here / "model", dtype="bfloat16", num_hidden_layers=4)
    note = {"format": 1, "vocabulary": {"base_rows": BASE, "rows": ROWS}}
    (here / "model" / "maxlite.json").write_text(json.dumps(note))
    shutil.copytree(tiny_text, here / "text")
    return here


def stage(desk: Path, name: str, train="everything", steps=6, init="()", **settings) -> list[str]:
    """Arguments of a run NAME with its export NAME-better in float32."""
    file = desk / f"{name}.py"
    file.write_text(STAGE.format(here=desk, train=train, steps=steps, init=init))
    settings = {"out": desk / name, "export": desk / f"{name}-better"} | settings
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return [f"--config={file}", "--config.export_dtype=float32", *keys]


@pytest.mark.parametrize("train", MOVES)
def test_what_is_frozen_keeps_every_byte(train, desk):
    """On eight devices, with decay, clipping that bites, accumulation and a resume."""
    name = train.replace(", ", "-")
    half = call("maxlite.train", *stage(desk, name, train, steps=3))
    assert half.status == 0, half.err
    shutil.rmtree(desk / f"{name}-better")
    outcome = call("maxlite.train", *stage(desk, name, train, steps=6))
    assert outcome.status == 0 and "resumed from step 3" in outcome.err, outcome.err
    check_moved(desk / "model", desk / f"{name}-better", MOVES[train])
    assert all(line["grad_norm"] > 0.05 for line in metrics(desk / name) if "loss" in line)

    saved = json.loads((desk / name / "run.json").read_text())
    assert saved["trained"] and saved["base"]["origin"] == str(desk / "model")
    kept = ts.KvStore.open(
        {"driver": "ocdbt", "base": f"file://{desk / name}/checkpoints/6/params/"}
    ).result()
    stored = {key.decode().rpartition("/")[0] for key in kept.list().result()}
    assert stored == set(saved["trained"])  # nothing that is frozen


def test_layouts_and_processes_agree(desk):
    """One device, eight devices and two processes; frozen bytes are the same on each."""
    train = "new_input_rows, output_rows"
    one = run("maxlite.train", *stage(desk, "one", train, steps=4))
    assert one.status == 0, one.err
    eight = call("maxlite.train", *stage(desk, "eight", train, steps=4, mesh="fsdp=4,tensor=2"))
    assert eight.status == 0, eight.err
    two = start_alike("maxlite.train", *stage(desk, "two", train, steps=4), devices=2)
    for outcome in finish(*two):
        assert outcome.status == 0, outcome.err
    steps = {
        name: [m["loss"] for m in metrics(desk / name) if "loss" in m]
        for name in ("one", "eight", "two")
    }
    np.testing.assert_allclose(steps["eight"], steps["one"], rtol=1e-5)
    np.testing.assert_allclose(steps["two"], steps["one"], rtol=1e-5)
    for name in ("one", "eight", "two"):
        assert set(moved(desk / "model", desk / f"{name}-better")) == {EMBEDDING, HEAD}


def test_killed_it_ends_as_if_nothing_had_happened(desk):
    train, settings = "odd_layers", {"steps": 12}
    assert run("maxlite.train", *stage(desk, "calm", train, **settings)).status == 0
    arguments = stage(desk, "killed", train, **settings)
    strike(
        signal.SIGKILL,
        start("maxlite.train", *arguments),
        lambda: step_reached(desk / "killed") >= 5,
    )
    assert run("maxlite.train", *arguments).status == 0
    assert metrics(desk / "killed") == metrics(desk / "calm")
    a, b = (snapshot(desk / f"{n}-better")["model.safetensors"] for n in ("calm", "killed"))
    assert a == b


def test_stages_chain_and_rest_on_one_origin(desk, tmp_path):
    """Three stages; the runs in between may be deleted, and each keeps what it does not train."""
    first = call("maxlite.train", *stage(desk, "s1", "new_rows", steps=2))
    assert first.status == 0, first.err
    second = call("maxlite.train", *stage(desk, "s2", "odd_layers", steps=2, model=desk / "s1"))
    assert second.status == 0, second.err
    third = call("maxlite.train", *stage(desk, "s3", "norms", steps=2, model=desk / "s2"))
    assert third.status == 0, third.err
    shutil.move(desk / "s1", tmp_path / "s1")
    shutil.move(desk / "s2", tmp_path / "s2")

    assert set(moved(desk / "model", desk / "s1-better")) == {EMBEDDING, HEAD}
    odd = {n for n in weights(desk / "model") if layer(n) in (1, 3)}
    assert set(moved(desk / "s1-better", desk / "s2-better")) == odd
    norms = {n for n in weights(desk / "model") if "norm" in n}
    assert set(moved(desk / "s2-better", desk / "s3-better")) == norms

    outcome = call(
        "tools.export_hf", f"--run={desk}/s3", f"--out={tmp_path}/again", "--dtype=float32"
    )
    assert outcome.status == 0, outcome.err
    assert not moved(desk / "s3-better", tmp_path / "again")
    described = json.loads((desk / "s3" / "run.json").read_text())["base"]
    assert described["origin"] == str(desk / "model")
    assert [list(step) for step in described["steps"]] == [["weights"], ["weights"]]


def test_a_stage_goes_on_with_inserted_layers(desk):
    """LLaMA-Pro in a config: only inserted layers train, and the rest is the model's, in order."""
    init = '(UpscaleDepth(method="llama_pro", add=2),)'
    outcome = call("maxlite.train", *stage(desk, "pro", "inserted_layers", steps=3, init=init))
    assert outcome.status == 0, outcome.err
    again = call(
        "maxlite.train",
        *stage(desk, "pro", "inserted_layers", steps=5, init=init, export=desk / "pro-longer"),
    )
    assert again.status == 0 and "resumed from step 3" in again.err, again.err
    before, after = weights(desk / "model"), weights(desk / "pro-longer")
    for name, x in after.items():
        new, source = layer(name), [0, 1, 1, 2, 3, 3][layer(name)]
        old = before[name.replace(f"layers.{new}.", f"layers.{source}.")]
        assert np.array_equal(x, old) == (new not in (2, 5)), name


def test_a_base_that_changed_or_went_is_refused(desk, tmp_path):
    shutil.copytree(desk / "model", tmp_path / "model")
    arguments = stage(
        desk,
        "base",
        "norms",
        steps=2,
        model=tmp_path / "model",
        out=tmp_path / "run",
        export=tmp_path / "better",
    )
    assert call("maxlite.train", *arguments).status == 0
    file = tmp_path / "model" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for command in (("maxlite.train", *arguments), ("tools.generate", f"--model={tmp_path}/run")):
        said = call(*command).sentence
        assert f"rests on {tmp_path}/model, which has changed" in said and file.name in said
    shutil.rmtree(tmp_path / "model")
    assert "is not there any more" in call("maxlite.train", *arguments).sentence


def test_a_run_without_a_checkpoint_begins_again_from_its_base(desk, tmp_path):
    """Killed before its first: not from whatever the model has become since."""
    shutil.copytree(desk / "model", tmp_path / "model")
    paths = {key: tmp_path / name for key, name in (("out", "run"), ("export", "better"))}
    arguments = stage(desk, "first", "norms", steps=2, model=tmp_path / "model", **paths)
    assert call("maxlite.train", *arguments).status == 0
    (tmp_path / "better").rename(tmp_path / "before")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    state = status(tmp_path / "run") | {"status": "running", "step": 0, "checkpoint": -1}
    (tmp_path / "run" / "status.json").write_text(json.dumps(state))
    assert call("maxlite.train", *arguments).status == 0
    assert not moved(tmp_path / "before", tmp_path / "better")

    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "status.json").write_text(json.dumps(state))
    (tmp_path / "model" / "training_arguments.json").write_text("{}")  # no part of the model
    shutil.rmtree(tmp_path / "better")
    assert call("maxlite.train", *arguments).status == 0
    save_file(weights(desk / "model"), tmp_path / "model" / "model.safetensors")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "status.json").write_text(json.dumps(state))
    shutil.rmtree(tmp_path / "better")
    assert "which has changed" in call("maxlite.train", *arguments).sentence


def test_a_run_can_keep_its_base(desk, tmp_path):
    shutil.copytree(desk / "model", tmp_path / "model")
    arguments = stage(
        desk,
        "copy",
        "norms",
        steps=2,
        model=tmp_path / "model",
        out=tmp_path / "run",
        export=tmp_path / "better",
        checkpoint__copy_base=True,
    )
    assert call("maxlite.train", *arguments).status == 0
    shutil.rmtree(tmp_path / "model")
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    outcome = call(
        "tools.export_hf",
        f"--run={tmp_path}/elsewhere",
        f"--out={tmp_path}/again",
        "--dtype=float32",
    )
    assert outcome.status == 0, outcome.err
    assert not moved(tmp_path / "better", tmp_path / "again")
    assert status(tmp_path / "elsewhere")["status"] == "finished"


def test_rules_give_groups_their_own_rates():
    """A rate of zero leaves a leaf where it is; the others move as in the plain optimizer."""
    config = Config(steps=4, optimizer=Optimizer(learning_rate=0.1, warmup=0, weight_decay=0.0))
    arch = Architecture(
        vocab_size=8, hidden_size=4, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2
    )
    rules = (Rule("norms", learning_rate=0.0), Rule("mlp", learning_rate=2.0), Rule("attention"))
    claims = claim(rules, arch)
    rng = np.random.default_rng(0)
    params = {
        n: rng.standard_normal(s).astype(np.float32)
        for n, s in claims.shapes.items()
        if claims.rule(n).trains
    }
    optimizer = optim.make_optimizer(config, {n: claims.rule(n) for n in params})
    plain = optim.make_optimizer(config)
    gradient = {n: rng.standard_normal(x.shape).astype(np.float32) for n, x in params.items()}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    expected, _ = plain.update(gradient, plain.init(params), params)
    for name, x in updates.items():
        factor = 0.0 if "norm" in name else 2.0 if "mlp" in name else 1.0
        np.testing.assert_allclose(x, factor * expected[name], rtol=1e-6)


def test_frozen_or_constant_is_the_same_step():
    """The clip norm and the updates do not depend on how the frozen part comes in."""
    arch = Architecture(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=4,
        num_attention_heads=2,
        base_rows=30,
    )
    claims = claim("odd_layers", arch)
    key, whole = jax.random.key(0), shapes(arch)

    def made(name):
        own = leaf(name)
        x = initialize(arch, own.parameter, whole[own.parameter], key, np.float32)
        return x if own.rows is None else x[np.array(own.rows)]

    params = {n: made(n) for n in claims.trained}
    frozen = {n: made(n) for n in claims.frozen}
    optimizer = optim.make_optimizer(Config(steps=9, optimizer=Optimizer(clip=0.01, warmup=0)))
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 40, (1, 2, 17)).astype(np.int32)
    batch = {
        "tokens": ids[..., :-1],
        "targets": ids[..., 1:],
        "segments": np.ones((1, 2, 16), np.int32),
        "positions": np.tile(np.arange(16, dtype=np.int32), (1, 2, 1)),
        "weights": np.ones((1, 2, 16), np.float32),
    }
    stop = np.zeros(1, np.int32)
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())

    def model(params, frozen):
        return bind(arch, params, frozen)

    given = jax.jit(step_lib.make_step(model, optimizer))
    constant = jax.jit(step_lib.make_step(lambda p, _: bind(arch, p, frozen), optimizer))
    one, figures = given(state, frozen, batch, stop)
    other, same = constant(state, {}, batch, stop)
    assert figures["grad_norm"] > 0.01
    np.testing.assert_allclose(figures["grad_norm"], same["grad_norm"], rtol=1e-6)
    for name, x in one.params.items():
        np.testing.assert_allclose(x, other.params[name], rtol=1e-5, atol=1e-7)
