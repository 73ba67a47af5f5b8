"""Stages compiled for TPUs that are not here, by the TPU's own compiler; skipped without it."""

import importlib.util
import json
import math
import re
import subprocess
import sys

import pytest
from commands import ROOT, done, run

from maxlite.model.loss import chunk_tokens
from maxlite.plan import hlo, program

pytestmark = [
    pytest.mark.tpu,
    pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs maxlite[tpu]"),
]

STAGE = """
from maxlite.config import Architecture, Config

def get_config():
    return Config(
        architecture=Architecture(
            vocab_size=1009, base_rows=1000, hidden_size=256, intermediate_size=512,
            num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        ),
        steps=10, batch_size=16, seq_len=512, remat="full", train="everything",
    )
"""
TEXT = """
import sys

from maxlite import flags
from maxlite.plan import compiled, plan
from maxlite.plan.topology import devices, parse
from maxlite.state.mesh import make_mesh

config = flags.parse(sys.argv[2:])[0]
mesh = make_mesh(config.mesh, devices(parse(sys.argv[1])))
print(compiled.lowered(plan(config), mesh).compile().as_text())
"""


@pytest.fixture
def stage(tmp_path):
    path = tmp_path / "stage.py"
    path.write_text(STAGE)
    return f"--config={path}"


def test_a_tpu_that_is_not_here_is_compiled_for(stage, tmp_path):
    file = tmp_path / "p.json"
    done(run("maxlite.plan", stage, "--topology=v5e:2x2", f"--json={file}"))
    found = json.loads(file.read_text())["topology"]
    assert (found["chips"], found["by"], found["hbm_gib"]) == (4, "compiler", 16)
    assert found["fits"] and 0 < found["peak_gib"] < 1 and found["compile_s"] > 0
    assert 0 < found["mfu"] <= found["hfu"] <= 1
    assert found["sent_bytes"]["all-gather"] > 0


def test_slices_speak_over_their_network(stage, tmp_path):
    file, mesh = tmp_path / "p.json", "--config.mesh=data=2,fsdp=2,tensor=2"
    done(run("maxlite.plan", stage, mesh, "--topology=2*v5e:2x2", f"--json={file}"))
    found = json.loads(file.read_text())["topology"]
    assert found["chips"] == 8 and found["seconds"]["network"] > 0
    refused = run("maxlite.plan", stage, "--topology=2*v5e:2x2")
    assert "data=1 is no multiple of the 2 slices" in refused.sentence


@pytest.mark.parametrize("mesh", ["fsdp=2,tensor=2", "fsdp=2,sequence=2"])
def test_the_step_attends_with_splash(stage, mesh):
    arguments = ["v5e:2x2", stage, f"--config.mesh={mesh}"]
    outcome = subprocess.run(
        [sys.executable, "-c", TEXT, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    kernels = [line for line in outcome.stdout.splitlines() if "tpu_custom_call" in line]
    # Forward, forward again for the backward pass, and its two kernels.
    assert len(kernels) == 4 and all("splash" in line for line in kernels)


@pytest.mark.parametrize("mesh", ["fsdp=4", "fsdp=2,tensor=2"])
def test_scores_are_never_all_there(stage, mesh):
    settings = {"architecture.vocab_size": 128_257, "batch_size": 32, "seq_len": 2048}
    arguments = [f"--config.{key}={value}" for key, value in settings.items()]
    outcome = subprocess.run(
        [sys.executable, "-c", TEXT, "v5e:2x2", stage, f"--config.mesh={mesh}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    found = set(re.findall(r"\b(?:f32|bf16)\[([\d,]+)\]", outcome.stdout))
    sizes = {math.prod(map(int, shape.split(","))) for shape in found}
    tensor = 2 if "tensor" in mesh else 1
    tokens, rows = 32 * 2048 * tensor // 4, -(-128_257 // tensor)
    chunk = chunk_tokens(rows)
    assert tokens % chunk == 0 and chunk * rows in sizes
    assert max(sizes) < tokens * rows / 10


def test_no_chip_has_a_whole_stack_or_the_sum_of_its_gradients(stage):
    """On eight chips; where a mesh fills a square of them, the compiler sums gradients whole."""
    sizes = {"num_hidden_layers": 6, "hidden_size": 1024, "intermediate_size": 2048}
    wide = [f"--config.architecture.{key}={n}" for key, n in sizes.items()]
    outcome = subprocess.run(
        [sys.executable, "-c", TEXT, "v5e:2x4", stage, *wide],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    assert "splash" in outcome.stdout
    found = set(re.findall(r"\w+\[6,(?:1,)?(\d+,\d+)\]", outcome.stdout))
    assert "2048,128" in found and not found & {"2048,1024", "1024,2048", "1024,1024", "512,1024"}
    sent = program.work(hlo.parse(outcome.stdout), 8).sent
    weights = 6 * (3 * 2048 + 2 * 1024 + 2 * 512) * 1024
    # In rings that pass on a share at a time, or scattered: a number in bfloat16 once a weight.
    assert sent["all-reduce"] < 0.01 * weights
    assert sent["collective-permute"] + sent["reduce-scatter"] > 2 * weights * 7 / 8
