"""Meshes from strings, and a place on them for every parameter there is."""

import itertools
import re
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.model import llama
from maxlite.state import mesh as mesh_lib
from maxlite.transforms import Lora


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("fsdp=-1", (1, 8, 1, 1)),
        ("fsdp=-1,tensor=2", (1, 4, 1, 2)),
        (" tensor = 2 , data=2, fsdp=-1", (2, 2, 1, 2)),
        ("fsdp=8,tensor=-1", (1, 8, 1, 1)),
        ("data=8", (8, 1, 1, 1)),
        ("data=2,fsdp=4,", (2, 4, 1, 1)),
        ("sequence=-1,tensor=2", (1, 1, 4, 2)),
    ],
)
def test_a_mesh_from_its_string(text, sizes):
    mesh = mesh_lib.make_mesh(text)
    assert mesh.axis_names == ("data", "fsdp", "sequence", "tensor")
    assert tuple(mesh.shape.values()) == sizes
    assert set(mesh.devices.flat) == set(jax.devices())
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fsdp=4",
        "fsdp=16",
        "fsdp=3,tensor=-1",
        "fsdp=0,tensor=-1",
        "fsdp=-2",
        "fsdp=-2,tensor=-4",
        "fsdp=-1,tensor=-1",
        "tensor=-1,fsdp=16",
    ],
)
def test_sizes_that_do_not_fit_the_devices(text):
    with pytest.raises(InputError, match="does not fit 8 devices") as caught:
        mesh_lib.make_mesh(text)
    assert f"'{text}'" in str(caught.value)
    (fits,) = re.findall(r"; '(.*)' does$", str(caught.value))
    assert mesh_lib.make_mesh(fits).size == 8


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("fsdp=3,tensor=2", "fsdp=4,tensor=2"),
        ("tensor=4,fsdp=3", "fsdp=2,tensor=4"),
        ("data=3,fsdp=3", "data=4,fsdp=2"),
        ("fsdp=-1,tensor=3", "fsdp=2,tensor=4"),
        ("fsdp=-1,tensor=-1", "fsdp=8,tensor=1"),
        ("sequence=16", "sequence=8"),
        ("", "fsdp=8"),
    ],
)
def test_the_nearest_mesh_is_named(text, nearest):
    with pytest.raises(InputError, match=f"; '{nearest}' does$"):
        mesh_lib.make_mesh(text)


@dataclass(frozen=True)
class Chip:
    """A device as a TPU pod's topology tells of it."""

    id: int
    slice_index: int
    coords: tuple[int, int, int]
    core_on_chip: int = 0
    process_index: int = 0
    device_kind: str = "TPU v4"
    platform: str = "tpu"


def pod(slices):
    """Slices of 2 x 4 chips, in an order that mixes them."""
    places = [(x, y, 0) for y in range(4) for x in range(2)]
    chips = [Chip(8 * s + i, s, at) for s in range(slices) for i, at in enumerate(places)]
    return chips[::2] + chips[1::2]


def test_replicas_lie_in_slices_and_tensor_on_neighbours():
    sizes = {"data": 4, "fsdp": 2, "sequence": 1, "tensor": 2}
    found = mesh_lib._arranged(sizes, pod(2))
    assert found.shape == (4, 2, 1, 2) and len(set(found.flat)) == 16
    for half, number in ((found[:2], 0), (found[2:], 1)):
        assert {chip.slice_index for chip in half.flat} == {number}
    for one, other in found.reshape(-1, 2):
        assert sum(abs(a - b) for a, b in zip(one.coords, other.coords, strict=True)) == 1


def test_slices_that_data_does_not_go_over():
    with pytest.raises(InputError, match=r"data=2 is no multiple of the 3 slices .* 24 devices"):
        mesh_lib._arranged({"data": 2, "fsdp": 12, "sequence": 1, "tensor": 1}, pod(3))


@pytest.mark.parametrize(
    "text", ["fsdp", "8", "fsdp=x", "fsdp=8;tensor=1", "fdsp=8", "fsdp=2,fsdp=4"]
)
def test_strings_that_are_no_mesh(text):
    with pytest.raises(InputError, match="write each axis once") as caught:
        mesh_lib.make_mesh(text)
    assert f"'{text}'" in str(caught.value)


def test_a_mesh_over_some_devices():
    some = jax.devices()[2:4]
    mesh = mesh_lib.make_mesh("fsdp=2", some)
    assert list(mesh.devices.flat) == some


def architectures():
    """Every set of parameter names that a supported model can have."""
    tables = ",embed_tokens,lm_head"
    everything = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    for bias, mlp_bias, tied in itertools.product((False, True), repeat=3):
        yield Architecture(
            vocab_size=16,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            attention_bias=bias,
            mlp_bias=mlp_bias,
            tie_word_embeddings=tied,
            lora=Lora(
                2 if bias else 0,
                4.0,
                everything + tables * (not tied and not mlp_bias),
                dora=mlp_bias,
            ),
        )


def test_every_parameter_has_a_rule_and_every_rule_a_parameter():
    shapes = {name: s for arch in architectures() for name, s in llama.shapes(arch).items()}
    assert shapes
    used = set()
    for name, shape in shapes.items():
        partition = mesh_lib.spec(name)
        matching = [p for pattern, p in mesh_lib.RULES if re.fullmatch(pattern, name)]
        assert matching == [partition], f"{name} is claimed by {len(matching)} rules"
        used |= {p for p, _ in mesh_lib.RULES if re.fullmatch(p, name)}
        assert len(partition) <= len(shape)
        if name.startswith(names.LAYERS) and partition:
            assert partition[0] is None, "layers stay together: they are scanned"
    assert used == {pattern for pattern, _ in mesh_lib.RULES}


def test_matrices_are_cut_on_both_axes_and_norms_on_none():
    assert mesh_lib.spec("model.layers.self_attn.q_proj.weight") == P(None, "tensor", "fsdp")
    assert mesh_lib.spec("model.layers.mlp.down_proj.weight") == P(None, "fsdp", "tensor")
    assert mesh_lib.spec("model.layers.self_attn.k_proj.bias") == P(None, "tensor")
    assert mesh_lib.spec("model.embed_tokens.weight") == P(None, ("fsdp", "tensor"))
    assert mesh_lib.spec("lm_head.weight") == P(None, ("fsdp", "tensor"))
    assert mesh_lib.spec("model.norm.weight") == P()


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.self_attn.q_norm.scale",
        "model.layers.self_attn.qkv_proj.weight",
        "model.embed_tokens.weight.extra",
        "lm_head.bias",
        "",
    ],
)
def test_a_name_without_a_rule_is_refused(name):
    with pytest.raises(InputError, match=re.escape(f"'{name}'")):
        mesh_lib.spec(name)


def test_shardings_of_a_model():
    arch = next(architectures())
    mesh = mesh_lib.make_mesh("data=2,fsdp=2,tensor=2")
    found = mesh_lib.shardings(mesh, llama.shapes(arch))
    assert found.keys() == llama.shapes(arch).keys()
    q = found["model.layers.self_attn.q_proj.weight"]
    assert q.shard_shape((2, 32, 32)) == (2, 16, 16)


def test_a_dimension_that_does_not_divide_is_refused():
    mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
    name = "model.embed_tokens.weight"
    found = mesh_lib.shardings(mesh, {name: (7, 24)})[name]  # rows are never cut
    assert found.shard_shape((7, 24)) == (7, 3)
    found = mesh_lib.shardings(mesh, {name: (7, 12)})[name]  # 12 does not divide over both
    assert found.shard_shape((7, 12)) == (7, 3)
    with pytest.raises(InputError, match="fsdp=4") as caught:
        mesh_lib.shardings(mesh, {name: (8, 10)})
    assert f"'{name}'" in str(caught.value) and "10" in str(caught.value)
    with pytest.raises(InputError, match="tensor=2"):
        mesh_lib.shardings(mesh, {"model.layers.mlp.up_proj.weight": (2, 15, 12)})


def test_heads_are_not_cut():
    arch = next(architectures())
    mesh_lib.check_heads(mesh_lib.make_mesh("fsdp=4,tensor=2"), arch)
    with pytest.raises(InputError, match=r"tensor=4 .* 2 key-value heads; at most tensor=2 works"):
        mesh_lib.check_heads(mesh_lib.make_mesh("fsdp=2,tensor=4"), arch)


def test_micro_batches_spread_evenly():
    mesh = mesh_lib.make_mesh("data=2,fsdp=2,tensor=2")
    mesh_lib.check_batch(mesh, 8, 2, 33)
    mesh_lib.check_batch(mesh, 4, 1, 33)
    for batch_size, accumulate in ((6, 1), (4, 2), (8, 4), (2, 1)):
        with pytest.raises(InputError, match=f"multiple of {accumulate * 4}$"):
            mesh_lib.check_batch(mesh, batch_size, accumulate, 32)


def test_the_tokens_of_a_row_spread_evenly():
    mesh = mesh_lib.make_mesh("fsdp=2,sequence=4")
    mesh_lib.check_batch(mesh, 2, 1, 32)
    assert mesh_lib.batch_sharding(mesh).shard_shape((3, 2, 32)) == (3, 1, 8)
    with pytest.raises(InputError, match=r"seq_len 30 .* sequence=4; make it a multiple of 4$"):
        mesh_lib.check_batch(mesh, 2, 1, 30)


def test_flags_are_one_number_a_device():
    mesh = mesh_lib.make_mesh("data=2,fsdp=2,tensor=2")
    answers = mesh_lib.flags(mesh)
    for answer in (False, True):
        np.testing.assert_array_equal(answers[answer], np.full(8, answer, np.int32))
        assert {s.data.shape for s in answers[answer].addressable_shards} == {(1,)}
