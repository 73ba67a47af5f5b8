"""A stage that goes on with the optimizer state of the one before."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from commands import call, metrics

from maxlite import config as config_lib
from maxlite.config import Config, Data, Eval, Optimizer, Source
from maxlite.errors import InputError
from maxlite.state.host import open_lazy
from maxlite.state.moments import KINDS, moments
from maxlite.training import job as job_lib
from maxlite.training import optim
from maxlite.training.begin import begin
from maxlite.transforms import AddLora, UpscaleDepth

FILE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer


def get_config():
    return Config(
        model="{here}/model",
        train="new_rows, odd_layers",
        steps=3,
        batch_size=8,
        seq_len=32,
        data=Data(train="{here}/text/xx.txt"),
        optimizer=Optimizer(learning_rate=1e-2, warmup=0, schedule="constant"),
        eval=Eval(every=0),
        log=Log(every=1),
    )
"""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    """A folder with model/ (rows from 360 on are new), text/, stage.py and the run first/."""
    here = tmp_path_factory.mktemp("desk")
    make_folder(here / "model", dtype="bfloat16", num_hidden_layers=4)
    note = {"vocabulary": {"base_rows": 360, "rows": 400}}
    (here / "model" / "maxlite.json").write_text(json.dumps(note))
    shutil.copytree(tiny_text, here / "text")
    (here / "stage.py").write_text(FILE.format(here=here))
    outcome = train(here, "first")
    assert outcome.status == 0, outcome.err
    return here


def train(desk: Path, out: str, **settings):
    keys = [f"--config.{key}={value}" for key, value in settings.items()]
    return call("maxlite.train", f"--config={desk}/stage.py", f"--config.out={desk}/{out}", *keys)


def begun(desk: Path, out: str, **settings):
    """The state with which a stage begins, as {leaf: (updates, mu, nu)}."""
    config = Config(
        model=str(desk / "first"),
        out=str(desk / out),
        batch_size=8,
        seq_len=32,
        data=Data(train=(Source(str(desk / "text/xx.txt")),)),
        optimizer=Optimizer(warmup=0),
        eval=Eval(every=0),
        keep_optimizer=True,
    )
    for key, value in settings.items():
        config_lib.put(config, key, value)
    job = job_lib.prepare(config_lib.resolve(config))
    optimizer = optim.make_optimizer(
        job.config, {n: job.claims.rule(n) for n in job.claims.trained}, job.claims.begun
    )
    with jax.set_mesh(job.mesh):
        state, _, step = begin(job, optimizer)
    assert step == 0
    found = {}
    states = jax.tree.leaves(state.opt, is_leaf=is_adam)
    for adam in filter(is_adam, states):
        for name, mu in adam.mu.items():
            if not isinstance(mu, optax.MaskedNode):
                found[name] = int(adam.count), np.asarray(mu), np.asarray(adam.nu[name])
    assert found.keys() == state.params.keys()
    return found


def is_adam(x) -> bool:
    return isinstance(x, optax.ScaleByAdamState)


@pytest.fixture(scope="module")
def before(desk):
    """What the first run has ended with, by tensor."""
    state = moments(str(desk / "first"), ())
    model = open_lazy(str(desk / "first"))
    assert set(state.counts().values()) == {3}
    return {kind: {n: t.read() for n, t in state.tensors(kind, model).items()} for kind in KINDS}


def test_what_trained_before_goes_on_and_the_rest_begins(desk, before):
    found = begun(desk, "wider", train="new_input_rows, output_rows, layers")
    assert {name: n for name, (n, _, _) in found.items() if not name.startswith("model.l")} == {
        f"{EMBEDDING}[360:400]": 3,
        f"{HEAD}[0:360]": 0,
        f"{HEAD}[360:400]": 3,
    }
    for name in (EMBEDDING, HEAD):
        for at, kind in enumerate(KINDS, 1):
            assert np.array_equal(found[f"{name}[360:400]"][at], before[kind][name][360:])
            assert before[kind][name][360:].any() and not before[kind][name][:360].any()
    assert not found[f"{HEAD}[0:360]"][1].any() and not found[f"{HEAD}[0:360]"][2].any()
    at = "model.layers.mlp.up_proj.weight"
    for first, count in ((0, 0), (1, 3)):
        n, mu, nu = found[f"{at}[{first}:{first + 3}:2]"]
        assert n == count and bool(mu.any()) == bool(nu.any()) == bool(count)
        if count:
            layers = [f"model.layers.{i}.mlp.up_proj.weight" for i in (1, 3)]
            assert np.array_equal(mu, np.stack([before["mu"][layer] for layer in layers]))


def test_adapters_begin_beside_what_goes_on(desk):
    found = begun(desk, "lora", train="lora, new_rows", init=(AddLora(rank=2, targets="q_proj"),))
    assert {n for n, (count, _, _) in found.items() if count} == {
        f"{EMBEDDING}[360:400]",
        f"{HEAD}[360:400]",
    }
    assert len(found) == 4


def test_it_resumes_as_if_it_had_not_been_stopped(desk):
    settings = {"model": desk / "first", "train": "output_rows", "keep_optimizer": True}
    outcome = train(desk, "calm", steps=4, **settings)
    assert outcome.status == 0, outcome.err
    assert "optimizer state of 1.28k parameters goes on from" in outcome.err
    assert train(desk, "twice", steps=2, **settings).status == 0
    shutil.move(desk / "first" / "checkpoints", desk / "aside")  # is not needed any more
    again = train(desk, "twice", steps=4, **settings)
    shutil.move(desk / "aside", desk / "first" / "checkpoints")
    assert again.status == 0 and "resumed from step 2" in again.err, again.err
    assert metrics(desk / "twice") == metrics(desk / "calm")
    fresh = train(desk, "fresh", steps=4, **{**settings, "keep_optimizer": False})
    assert fresh.status == 0 and "goes on from" not in fresh.err
    one, other = ([m["loss"] for m in metrics(desk / n)] for n in ("calm", "fresh"))
    assert one[0] == other[0] and one[2] != other[2]


def test_what_has_no_state_is_refused(desk, tmp_path):
    for model in (desk / "model", tmp_path / "run"):
        if model != desk / "model":
            call("tools.import_hf", f"--model={desk}/model", f"--out={model}")
        with pytest.raises(InputError, match="is no run that has trained and so has no optimizer"):
            begun(desk, "none", model=str(model))
    with pytest.raises(InputError, match="'init' has UpscaleDepth, which re-arranges"):
        begun(desk, "none", init=(UpscaleDepth("dus", drop=1),))


def test_moments_go_on_in_another_precision(desk):
    """Of a float32 stage rounded, of a bfloat16 one exactly; what trains no matrix stays as is."""
    short = {"optimizer.bfloat16": "moments", "train": "new_rows"}
    plain, halved = begun(desk, "plain", train="new_rows"), begun(desk, "halved", **short)
    assert plain.keys() == halved.keys()
    for name, (count, *whole) in plain.items():
        assert halved[name][0] == count == 3
        for x, rounded in zip(whole, halved[name][1:], strict=True):
            assert x.any() and rounded.dtype == "bfloat16"
            assert np.array_equal(x.astype(rounded.dtype), rounded)
    keys = {f"optimizer.{k}": v for k, v in {"bfloat16": "moments", "learning_rate": 1e-2}.items()}
    assert train(desk, "in-half", **keys).status == 0
    state, model = moments(str(desk / "in-half"), ()), open_lazy(str(desk / "in-half"))
    held = {kind: state.tensors(kind, model) for kind in KINDS}
    again = begun(desk, "again", model=str(desk / "in-half"), train="new_rows")
    for at, kind in enumerate(KINDS, 1):
        rows = held[kind][EMBEDDING].read()[360:].astype(np.float32)
        found = again[f"{EMBEDDING}[360:400]"][at]
        assert found.dtype == np.float32 and rows.any() and np.array_equal(found, rows)


def test_a_run_that_goes_on_keeps_its_precision(desk):
    outcome = train(desk, "first", **{"optimizer.bfloat16": "moments"})
    assert outcome.status == 1 and "optimizer.bfloat16" in outcome.sentence
