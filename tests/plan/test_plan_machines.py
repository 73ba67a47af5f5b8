"""`python -m maxlite.plan --topology`: stages on machines that are not here."""

import importlib.util
import json

import jax
import pytest
from commands import call, done

from maxlite.config import Architecture, Config, resolve
from maxlite.errors import InputError
from maxlite.plan import GIB, analytic, compiled, hlo, plan, program
from maxlite.plan.topology import parse
from maxlite.state import mesh as mesh_lib

SHAPE = {
    "vocab_size": 512,
    "base_rows": 384,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
STAGE = f"""
from maxlite.config import Architecture, Config

def get_config():
    return Config(
        architecture=Architecture(**{SHAPE!r}),
        steps=10, batch_size=64, seq_len=128, remat="full", train="everything",
    )
"""


@pytest.fixture
def stage(tmp_path):
    path = tmp_path / "stage.py"
    path.write_text(STAGE)
    return f"--config={path}"


def planned(**settings):
    config = Config(architecture=Architecture(**SHAPE), batch_size=16, seq_len=128, **settings)
    return plan(resolve(config))


def refused(*arguments):
    return call("maxlite.plan", *arguments).sentence


def test_a_machine_with_gpus_is_estimated_and_said_to_be(stage, tmp_path):
    file = tmp_path / "p.json"
    outcome = done(call("maxlite.plan", stage, "--topology=h100:8", f"--json={file}"))
    assert "by the analytical model, not by a compiler" in outcome.out
    found = json.loads(file.read_text())["topology"]
    assert (found["name"], found["chips"], found["by"]) == ("h100:8", 8, "model")
    assert found["fits"] and found["compile_s"] is None
    assert found["peak_gib"] == pytest.approx(sum(found["memory_gib"].values()))
    one = planned(remat="full")
    spread = sum(one.sizes.values()) - sum(n for k, n in one.sizes.items() if "norm" in k)
    whole = one.parameters - spread
    assert found["memory_gib"]["optimizer"] * GIB == 8 * (spread / 8 + whole)
    tokens = 64 * 128
    work = one.flops_per_token * tokens / 8
    assert found["mfu"] == pytest.approx(work / found["step_s"] / 989e12)
    assert found["hfu"] > found["mfu"]  # the layers' forward pass runs twice
    assert found["tokens_per_day"] == pytest.approx(tokens * 86_400 / found["step_s"])
    assert found["chip_hours"] == pytest.approx(10 * found["step_s"] * 8 / 3600)


def test_meshes_stand_in_a_table_the_fastest_first(stage, tmp_path):
    file = tmp_path / "p.json"
    meshes = "tensor=8;fsdp=8;data=2,fsdp=2,tensor=2"
    several = f"--topology=h100:8,2*h100:4 --mesh={meshes}".split()
    outcome = done(call("maxlite.plan", stage, *several, "--markdown", f"--json={file}"))
    found = json.loads(file.read_text())["topology"]
    assert [(one["name"], one["mesh"]) for one in found] == [
        (name, mesh) for name in ("h100:8", "2*h100:4") for mesh in meshes.split(";")
    ]
    lines = outcome.out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| stage"))
    rows = [line.split(" | ") for line in lines[start + 2 :]]
    assert len(rows) == 6
    steps = [float(row[6]) for row in rows]
    assert steps == sorted(steps)


def test_what_does_not_fit_is_marked(stage):
    big = [f"--config.{key}" for key in ("batch_size=131072", "remat=none")]
    outcome = done(call("maxlite.plan", stage, *big, "--topology=l4:8"))
    assert "DOES NOT FIT" in outcome.out


def test_what_is_refused(stage, tmp_path, monkeypatch):
    assert "v4, v5e, v5p, v6e, tpu7x" in refused(stage, "--topology=v9:2x2")
    assert "there is no topology 'v5e'" in refused(stage, "--topology=v5e")
    assert "3 sides, not 2" in refused(stage, "--topology=v5e:2x2x2")
    assert "does not fit 8 devices" in refused(stage, "--topology=h100:8", "--mesh=fsdp=3")
    assert "make it a multiple of 128" in refused(stage, "--topology=h100:128")
    assert "tensor=16 does not divide" in refused(stage, "--topology=h100:16", "--mesh=tensor=16")
    assert "--mesh is for" in refused(stage, "--mesh=fsdp=8")
    assert "--topology has no value" in refused(stage, "--topology=")
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "libtpu" else there(n))
    assert "pip install 'maxlite[tpu]'" in refused(stage, "--topology=v5e:2x2")


def test_names_say_how_many_chips_and_devices():
    one = parse("2*v5e:8x8")
    assert (one.slices, one.sides, one.chips, one.devices) == (2, (8, 8), 128, 128)
    assert parse("tpu7x:2x2x2").devices == 16 and parse("4*h200:8").chips == 32
    with pytest.raises(InputError, match="0"):
        parse("0*v5e:8x8")


@pytest.mark.parametrize(
    ("train", "remat", "mesh"),
    [
        ("everything", "full", "fsdp=8"),
        ("new_input_rows", "none", "fsdp=4,tensor=2"),
    ],
)
def test_the_model_is_about_what_a_compiler_says(train, remat, mesh):
    one = planned(train=train, remat=remat, dtype="float32", mesh=mesh)
    model = analytic.estimate(one, parse("h100:8"), mesh)
    step = compiled.lowered(one, mesh_lib.make_mesh(mesh)).compile()
    memory = compiled.memory_of(step)
    took = sum(memory.values()) - memory["program"]
    ratio = model.peak_gib * GIB / took
    assert 0.8 < ratio < 2, ratio
    batch = 20 * one.config.batch_size * one.config.seq_len / (8 if mesh == "fsdp=8" else 4)
    held = model.memory["parameters"] + model.memory["optimizer"] + batch
    assert held == pytest.approx(memory["arguments"], rel=0.01)
    did = program.work(hlo.parse(step.as_text()), 8)
    assert not did.unknown
    # Dense attention computes whole blocks, of which a causal query sees a part.
    assert 1 <= did.flops / model.flops < 1.3


def test_a_plan_lowers_what_training_compiles():
    """The program of a plan and that of a run of the same config are the same text."""
    from maxlite.training import lowering

    one = planned(train="new_input_rows", dtype="float32")
    mesh = mesh_lib.make_mesh("fsdp=8")
    optimizer = lowering.make_optimizer(one.config, one.claims)
    spread = mesh_lib.shardings(mesh, one.claims.shapes)
    arrays = {
        name: jax.device_put(jax.numpy.zeros(shape, one.dtypes[name]), spread[name])
        for name, shape in one.claims.shapes.items()
    }
    params = {name: arrays[name] for name in one.claims.trained}
    like = lowering.abstract_state(one.claims, spread, optimizer, mesh)
    assert jax.tree.map(lowering.abstract, params) == like.params
    frozen = {name: lowering.abstract(arrays[name]) for name in one.claims.frozen}
    assert frozen == lowering.abstract_frozen(one.claims, spread, one.dtypes)
