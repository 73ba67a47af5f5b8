"""Checkpoints: what is restored is what was saved, or it is refused."""

import json
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from state_examples import SHAPES, flip, params_at, rest_at

from maxlite.errors import InputError
from maxlite.state import checkpoint as ckpt
from maxlite.state import manifest
from maxlite.state import mesh as mesh_lib


def abstract(tree, shardings):
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings
    )


def same(one, other):
    """Bitwise, in types too."""
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def values(folder, step, grid, name="model.norm.weight"):
    shape = jax.ShapeDtypeStruct(SHAPES[name], np.float32, sharding=mesh_lib.replicated(grid))
    tree = abstract(params_at(grid, 0), mesh_lib.shardings(grid, SHAPES)) | {name: shape}
    return np.asarray(ckpt.restore(folder, step, "params", tree)[name])


# --- what is saved comes back ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["fsdp=4,tensor=2", "data=2,fsdp=2,tensor=2", "data=8"])
def test_restored_bitwise_onto_any_mesh(text, three, grid):
    mesh = mesh_lib.make_mesh(text)
    params = params_at(grid, 2)
    rest = rest_at(grid, params, 2)
    target = mesh_lib.shardings(mesh, SHAPES)
    found = ckpt.restore(three, 2, "params", abstract(params, target))
    for name, x in params.items():
        assert same(found[name], x)
        assert found[name].sharding == target[name]
    replicated = mesh_lib.replicated(mesh)
    like = abstract(rest, jax.tree.map(lambda _: replicated, rest))
    found = ckpt.restore(three, 2, "rest", like)
    assert jax.tree.structure(found) == jax.tree.structure(rest)
    assert all(jax.tree.leaves(jax.tree.map(same, found, rest)))
    assert int(found["counters"]["step"]) == 2


def test_optimizer_moments_come_back_bitwise(grid, tmp_path):
    params = params_at(grid, 5)
    adam = optax.scale_by_adam()
    _, opt = jax.jit(adam.update)(params, adam.init(params))
    saver = ckpt.Checkpoints(tmp_path / "c", keep=1, keep_every=0)
    saver.save(5, params, {"opt": opt}, {})
    saver.close()
    mesh = mesh_lib.make_mesh("fsdp=8")
    like = abstract({"opt": opt}, jax.tree.map(lambda _: mesh_lib.replicated(mesh), {"opt": opt}))
    found = ckpt.restore(tmp_path / "c", 5, "rest", like)["opt"]
    assert float(np.abs(np.asarray(found.mu["model.norm.weight"])).max()) > 0
    assert all(jax.tree.leaves(jax.tree.map(same, found, opt)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_types_are_kept(dtype, grid, tmp_path):
    params = params_at(grid, 1, jnp.dtype(dtype))
    saver = ckpt.Checkpoints(tmp_path / "c", keep=1, keep_every=0)
    saver.save(1, params, {}, {"step": 1})
    saver.close()
    found = ckpt.restore(
        tmp_path / "c", 1, "params", abstract(params, mesh_lib.shardings(grid, SHAPES))
    )
    assert all(same(found[name], x) for name, x in params.items())
    assert json.loads((tmp_path / "c" / "1" / "meta" / "metadata").read_text()) == {"step": 1}


def test_arrays_may_be_donated_once_save_returns(grid, tmp_path):
    """The save goes on in the background from its own copy."""
    params = params_at(grid, 1)
    expected = {name: np.asarray(x).copy() for name, x in params.items()}
    saver = ckpt.Checkpoints(tmp_path / "c", keep=1, keep_every=0)
    saver.save(1, params, {}, {})
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 - 7, tree), donate_argnums=0)
    jax.block_until_ready(overwrite(params))
    saver.close()
    like = {
        name: jax.ShapeDtypeStruct(shape, np.float32, sharding=s)
        for (name, shape), s in zip(
            SHAPES.items(), mesh_lib.shardings(grid, SHAPES).values(), strict=True
        )
    }
    found = ckpt.restore(tmp_path / "c", 1, "params", like)
    assert all(same(found[name], x) for name, x in expected.items())


# --- damage --------------------------------------------------------------------------------------


def test_the_one_before_a_damaged_one_is_restored(folder, grid):
    flip(folder / "3")
    found, _ = ckpt.find_verified(folder)
    assert found == 2
    assert same(values(folder, 2, grid), params_at(grid, 2)["model.norm.weight"])


def test_damaged_ones_are_kept_aside_and_unfinished_ones_go(folder, capsys):
    flip(folder / "3")
    (folder / "2" / "manifest-0-of-1.json").unlink()
    _, problems = manifest.find_verified(folder)
    ckpt.set_aside(folder, problems)
    assert sorted(p.name for p in folder.iterdir()) == ["1", "damaged-3-0"]
    assert "DAMAGED" in capsys.readouterr().err
    shutil.copytree(folder / "damaged-3-0", folder / "3")
    ckpt.set_aside(folder, manifest.find_verified(folder)[1])
    assert sorted(p.name for p in folder.iterdir()) == ["1", "damaged-3-0", "damaged-3-1"]
    assert manifest.steps_in(folder) == [1]


def test_a_step_that_was_set_aside_is_written_again(folder, grid):
    flip(folder / "3")
    ckpt.set_aside(folder, manifest.find_verified(folder)[1])
    saver = ckpt.Checkpoints(folder, keep=9, keep_every=0)
    saver.save(3, params_at(grid, 33), {}, {})
    saver.close()
    assert manifest.find_verified(folder) == (3, {})
    assert same(values(folder, 3, grid), params_at(grid, 33)["model.norm.weight"])
    assert (folder / "damaged-3-0").is_dir()


def test_what_a_killed_save_left_is_cleared_away(folder, grid):
    """Orbax writes under a temporary name, which is no step."""
    partial = folder / "4.orbax-checkpoint-tmp"
    shutil.copytree(folder / "3", partial)
    assert manifest.find_verified(folder) == (3, {})
    ckpt.Checkpoints(folder, keep=9, keep_every=0).close()
    assert not partial.exists()
    assert manifest.steps_in(folder) == [3, 2, 1]


KILLED = """
import pathlib, sys
import jax, jax.numpy as jnp
from maxlite.state import checkpoint
saver = checkpoint.Checkpoints(pathlib.Path(sys.argv[1]), keep=9, keep_every=0)
big = {"model.norm.weight": jnp.ones((1 << 24,))}
saver.save(4, big, {}, {})
saver.wait()
print("saved", flush=True)
for step in range(5, 99):
    saver.save(step, big, {}, {})
"""


def test_sigkill_in_the_middle_of_a_save(folder):
    """Whenever it comes, the newest checkpoint that verifies is one that was whole."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "saved\n"
        until = time.monotonic() + 60
        while time.monotonic() < until and not any("tmp" in p.name for p in folder.iterdir()):
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    found, problems = manifest.find_verified(folder)
    assert found >= 4
    assert set(problems.values()) <= {"incomplete"}
    ckpt.set_aside(folder, problems)
    ckpt.Checkpoints(folder, keep=9, keep_every=0).close()
    assert manifest.steps_in(folder)[0] == found
    assert not [p for p in folder.iterdir() if not p.name.isdecimal()]


# --- retention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep", "keep_every", "left"),
    [(1, 0, [6]), (2, 0, [6, 5]), (1, 2, [6, 4, 2]), (2, 4, [6, 5, 4])],
)
def test_retention(keep, keep_every, left, grid, tmp_path):
    verified = []
    saver = ckpt.Checkpoints(tmp_path / "c", keep, keep_every, verified.append)
    params = {"model.norm.weight": params_at(grid, 0)["model.norm.weight"]}
    for step in range(1, 7):
        saver.save(step, params, {}, {})
    saver.close()
    assert manifest.steps_in(tmp_path / "c") == left
    assert verified == [1, 2, 3, 4, 5, 6]


def test_the_last_verified_stays_until_the_next_is(grid, tmp_path, monkeypatch):
    """With keep=1 and a save that fails at its manifest, the one before is still there."""
    saver = ckpt.Checkpoints(tmp_path / "c", keep=1, keep_every=0)
    params = params_at(grid, 1)
    saver.save(1, params, {}, {})
    saver.wait()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ckpt, "write_manifest", fail)
    saver.save(2, params, {}, {})
    saver._thread.join()
    with pytest.raises(InputError, match=r"step 2 .* full; earlier checkpoints are untouched"):
        saver.check()
    saver.check()  # once is enough
    saver.close()
    assert manifest.find_verified(tmp_path / "c") == (1, {2: "incomplete"})


# --- a full disk ---------------------------------------------------------------------------------

FULL = """
import contextlib, pathlib, resource, sys
import jax, numpy as np
from maxlite import console
from maxlite.errors import InputError
from maxlite.state import checkpoint

def main(arguments):
    saver = checkpoint.Checkpoints(
        pathlib.Path(arguments[0]), keep=1, keep_every=0, on_verified=lambda s: print("verified", s)
    )
    values = np.random.default_rng(0).random((8, 1 << 15), np.float32)  # does not compress
    params = {f"{i}": jax.device_put(x) for i, x in enumerate(values)}
    try:
        saver.save(1, params, {}, {})
        saver.wait()
        # Files may not grow any more, which the kernel says much as it says that a disk is full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        saver.save(2, params, {}, {})
        saver.wait()
    finally:
        with contextlib.suppress(InputError):
            saver.close()

console.run(main)
"""


def test_a_full_disk_is_one_sentence_and_costs_nothing_saved(grid, tmp_path):
    folder = tmp_path / "checkpoints"
    result = subprocess.run(
        [sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stdout == "verified 1\n"
    assert result.stderr == (
        f"maxlite: the checkpoint of step 2 could not be written to {folder}: the disk or a quota "
        "is full; earlier checkpoints are untouched, start the run again to go on from the last\n"
    )
    assert sorted(p.name for p in folder.iterdir()) == ["1"]  # no half of step 2
    assert manifest.find_verified(folder) == (1, {})
    like = {
        str(i): jax.ShapeDtypeStruct((1 << 15,), np.float32, sharding=mesh_lib.replicated(grid))
        for i in range(8)
    }
    values = np.random.default_rng(0).random((8, 1 << 15), np.float32)
    found = ckpt.restore(folder, 1, "params", like)
    assert all(same(found[str(i)], x) for i, x in enumerate(values))
