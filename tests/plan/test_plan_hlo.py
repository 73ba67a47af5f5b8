"""`maxlite.plan.hlo` and `program`: what the text of a compiled program says it does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from maxlite.plan import hlo
from maxlite.plan.program import NETWORK, Exchange, group, work
from maxlite.state import mesh as mesh_lib


def compiled(function, *arguments, **settings):
    return jax.jit(function, **settings).lower(*arguments).compile().as_text()


def of(shape, *sharding, dtype=jnp.float32):
    place = NamedSharding(*sharding) if sharding else None
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def test_a_loop_counts_as_often_as_it_runs():
    def step(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    text = compiled(step, of((8, 32)), of((5, 32, 32)))
    found = work(hlo.parse(text), 1)
    assert found.flops == 5 * 2 * 8 * 32 * 32 and not found.unknown
    layer = 4 * 32 * 32  # a turn copies and reads its own, and never the five of them
    assert 5 * layer <= found.traffic < 5 * 5 * layer


def test_loops_within_loops_multiply():
    def inner(x, w):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x @ w), x), None

    text = compiled(lambda x, w: jax.lax.scan(inner, x, w)[0], of((4, 16)), of((7, 16, 16)))
    assert work(hlo.parse(text), 1).flops == 7 * 3 * 2 * 4 * 16 * 16


COUNTED = """
%cond (p: (s32[], f32[4])) -> pred[] {
  %p = (s32[], f32[4]{0}) parameter(0)
  %limit = s32[] constant(9)
  %at = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%at, %limit), direction=LT
}

%body (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %q = (s32[], f32[4]{0:T(128)S(1)}) parameter(0)
  %by = s32[] constant(2)
  %i = s32[] get-tuple-element(%q), index=0
  %x = f32[4]{0:T(128)S(1)} get-tuple-element(%q), index=1
  %next = s32[] add(%i, %by)
  %y = f32[4]{0} negate(%x)
  ROOT %out = (s32[], f32[4]{0}) tuple(%next, %y)
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %start = s32[] constant(START)
  %begin = s32[] copy(%start)
  %init = (s32[], f32[4]{0}) tuple(%begin, %a)
  %loop = (s32[], f32[4]{0}) while(%init), condition=%cond, body=%body
  ROOT %result = f32[4]{0} get-tuple-element(%loop), index=1
}
"""


@pytest.mark.parametrize(("start", "turns"), [("0", 5), ("1", 4), ("8", 1)])
def test_turns_are_worked_out_where_they_are_not_noted(start, turns):
    """A TPU's compiler notes none, and counts by two where it unrolls."""
    program = hlo.parse(COUNTED.replace("START", start))
    assert program.trips(program.entry, program.entry.instructions["loop"]) == turns
    found = work(program, 1)
    # i + by and -x, of which x lies on the chip itself; and the copy of the start
    assert found.traffic == turns * (3 * 4 + 16) + 2 * 4


def test_a_loop_that_does_not_say_counts_once_and_is_told():
    program = hlo.parse(COUNTED.replace("constant(9)", "parameter(1)"))
    found = work(program, 1)
    assert found.unknown == ["loop"] and [phase.times for phase in found.phases] == [1, 1]


def test_convolutions_count_the_pairs_that_are_there():
    """As XLA's own analysis does for a program without loops."""

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x, w, (2, 1), [(1, 2), (3, 0)], lhs_dilation=(1, 2), rhs_dilation=(2, 1)
        )

    lowered = jax.jit(convolve).lower(of((2, 3, 8, 9)), of((5, 3, 3, 4)))
    line = next(x for x in lowered.as_text("hlo").splitlines() if " convolution(" in x)
    one = hlo._instruction(*hlo._LINE.match(line).groups()[1:])
    operands = [
        hlo.Instruction(n, "parameter", (hlo.Array("f32", s),), (), "", "")
        for n, s in (("x", (2, 3, 8, 9)), ("w", (5, 3, 3, 4)))
    ]
    assert hlo.flops(one, operands) == lowered.cost_analysis()["flops"]


def test_splash_kernels_count_what_causal_queries_see():
    line = (
        "  %splash_mqa_dq_segmented_no_residuals.1 = (f32[2,512,128]{2,1,0}, bf16[2,4,1024,128]"
        '{3,2,1,0}) custom-call(%m, %m, %n, %q, %k, %k), custom_call_target="tpu_custom_call"'
    )
    one = hlo._instruction(*hlo._LINE.match(line).groups()[1:])
    given = {
        "m": ("s8", (1, 2, 2)),
        "q": ("bf16", (2, 4, 1024, 128)),
        "k": ("bf16", (2, 1024, 128)),
    }
    operands = [
        hlo.Instruction(n, "parameter", (hlo.Array(*given[n]),), (), "", "") for n in "mmqkk"
    ]
    assert hlo.flops(one, operands) == 3 * 2 * (2 * 4 * 1024 * 128) * 1024 * 0.75


def test_gathered_bytes_are_those_of_the_array():
    mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
    x = of((8, 64), mesh, P("fsdp", None))
    w = of((48, 64), mesh, P(None, "fsdp"))
    with jax.set_mesh(mesh):
        text = compiled(lambda x, w: x @ w.T, x, w, out_shardings=NamedSharding(mesh, P("fsdp")))
    found = work(hlo.parse(text), 8)
    assert set(found.sent) == {"all-gather"}
    assert found.sent["all-gather"] == 4 * 48 * 64 * 3 / 4  # all but its own quarter
    (one,) = [one for phase in found.phases for one in phase.exchanges]
    assert one.group == (0, 2, 4, 6)
    assert found.flops == 2 * 2 * 48 * 64


def test_bytes_sent_by_kind():
    def sent(kind):
        return Exchange(kind, 800.0, (0, 1, 2, 3), False).sent

    assert sent("all-gather") == sent("reduce-scatter") == sent("all-to-all") == 600
    assert sent("all-reduce") == 1200 and sent("collective-permute") == sent(NETWORK) == 800


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("replica_groups={{0,2},{1,3}}", (0, 2)),
        ("replica_groups=[2,4]<=[8]", (0, 1, 2, 3)),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=4] {'a'}, x={1}", (0, 4)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b'}", (0, 1, 2, 3)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b':(1)2}", (0, 2)),
        ("replica_groups=mesh['a'=2,'b'=4] {'b':(2)2}", (0, 1)),
        ("source_target_pairs={{0,3},{3,5},{5,0},{1,2}}", (0, 3, 5)),
        ("replica_groups={}", tuple(range(8))),
    ],
)
def test_groups_in_every_way_they_are_written(attributes, expected):
    one = hlo.Instruction("x", "all-reduce", (), (), "", f", {attributes}, metadata={{}}")
    assert group(one, 8) == expected


def test_sizes_of_types():
    def nbytes(kind):
        return hlo._arrays(kind)[0].nbytes

    assert nbytes("bf16[2,3]{1,0:T(8,128)(2,1)S(1)}") == 12 and nbytes("pred[8]") == 8
    assert nbytes("s4[8]") == 4 and nbytes("f8e4m3fn[8]") == 8 and nbytes("token[]") == 0
    assert [a.space for a in hlo._arrays("(f32[2]{0:S(1)}, /*index=5*/u32[]{:S(2)}, f32[]")] == [
        *(1, 2, 0)
    ]
    assert np.prod(hlo._arrays("f32[]")[0].shape) == 1
