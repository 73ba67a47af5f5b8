"""The cuDNN backend: all of it but the kernels on a CPU, and with them where there is a GPU.

On a CPU a few lines of jnp stand in for the kernels. They take the same operands, follow the same
offsets through memory, and leave what a kernel would not write as NaN.
"""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attending import arrays, both, pulled

from maxlite import xla
from maxlite.errors import InputError
from maxlite.model import attention as attention_lib
from maxlite.model import attention_cudnn, attention_dense, documents, remat
from maxlite.model.attention import check, choose, described
from maxlite.state.mesh import make_mesh

fused = pytest.importorskip("jax._src.cudnn.fused_attention_stablehlo")
CONFIGURATION = "cudnn_fmha_backend_config"


def stand_in(name, results, *, output_layouts, legacy_backend_config, **_):
    """`jax.ffi.ffi_call` for the two custom calls of cuDNN."""
    told = json.loads(legacy_backend_config)[CONFIGURATION]
    window, most = told["sliding_window_length"], told["max_seg_per_batch"]

    def call(q, k, v, *rest):
        B, L, H, E = q.shape
        K, C = k.shape[2], B * most
        *others, lengths, lengths_kv, starts_q, starts_k = (
            rest if most > 1 else (*rest, *[None] * 4)
        )
        if most == 1:
            lengths = jnp.full(C, L)
            starts_q, starts_k = jnp.arange(C) * L * H * E, jnp.arange(C) * L * K * E
        else:
            assert lengths.shape == lengths_kv.shape == (B, most)
            assert starts_q.shape == starts_k.shape == (B, most + 1)
        here = jnp.arange(L) < lengths.reshape(-1, 1)

        def numbers(starts, heads):
            """Places in memory of each document's tokens, [C, L, heads, E]."""
            inner = jnp.arange(L * heads * E).reshape(L, heads, E)
            at = starts.reshape(-1)[:C, None, None, None] + inner
            return jnp.where(here[..., None, None], at, 2**30)

        def read(x, starts):
            return x.reshape(-1).at[numbers(starts, x.shape[2])].get(mode="fill", fill_value=0)

        def written(x, starts, like):
            memory = jnp.full(like.size, jnp.nan, like.dtype)
            memory = memory.at[numbers(starts, like.shape[2])].set(
                x.astype(like.dtype), mode="drop"
            )
            return memory.reshape(like.shape).transpose(0, 2, 1, 3)

        def attend(q, k, v):
            k, v = (jnp.repeat(x, H // K, axis=2) for x in (k, v))
            scores = jnp.einsum("cshe,cthe->chst", q, k) * told["fmha_scale"]
            distance = jnp.arange(L)[:, None] - jnp.arange(L)
            seen = (distance >= 0) & (distance < (window or L)) & here[:, None, None, :]
            scores = jnp.where(seen, scores, -1e30)
            sums = jax.nn.logsumexp(scores, axis=-1)
            return jnp.einsum("chst,cthe->cshe", jnp.exp(scores - sums[..., None]), v), sums

        inputs = read(q, starts_q), read(k, starts_k), read(v, starts_k)
        (o, sums), pull = jax.vjp(attend, *inputs)
        nothing = jnp.zeros(0, jnp.uint8)
        if "Backward" not in name:
            sums = jnp.where(here[:, None], sums, jnp.nan)
            return [written(o, starts_q, q), sums, nothing]
        told_sums, do, told_o = others
        right = jnp.where(here[:, None], jnp.abs(told_sums - sums) < 1e-4, True).all()
        told_o = read(told_o, starts_q)
        right &= jnp.where(here[..., None, None], jnp.abs(told_o - o) < 1e-4, True).all()
        dq, dk, dv = pull((jnp.where(right, read(do, starts_q), jnp.nan), jnp.zeros_like(sums)))
        made = written(dq, starts_q, q), written(dk, starts_k, k), written(dv, starts_k, v)
        return [*made, nothing]

    return call


@pytest.fixture
def gpu(monkeypatch):
    """A GPU to believe in: Hopper, with the stand-in for its kernels."""
    device = SimpleNamespace(
        compute_capability="9.0", client=SimpleNamespace(platform_version="PJRT C API cuda 13000")
    )
    for module in (attention_lib, attention_cudnn):
        monkeypatch.setattr(module, "platform", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda *_: [device])
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(jax.ffi, "ffi_call", stand_in)
    attention_cudnn._unknown.cache_clear()
    yield device
    attention_cudnn._unknown.cache_clear()


@pytest.fixture
def any_dtype(gpu, monkeypatch):
    """float32 too, which the stand-in knows: so that it is told from the dense one by little."""
    monkeypatch.setattr(attention_cudnn, "obstacle", lambda *_: "")


def packed(B, S, mean, seed=1):
    drawn = np.random.default_rng(seed).random((B, S)) < 1 / mean
    return jnp.asarray(np.cumsum(drawn, axis=1), jnp.int32)


# One document a row, a few, dozens that fill two levels, and more than the last one has room for.
@pytest.mark.parametrize(
    ("mean", "H", "K", "window"),
    [(0, 4, 2, 37), (400, 4, 2, 0), (60, 2, 2, 37), (15, 4, 2, 0), (1.5, 4, 2, 37)],
)
def test_cudnn_is_dense_attention(any_dtype, mean, H, K, window):
    made, _ = arrays(2, 256, H, K, 8)
    segments = packed(2, 256, mean) if mean else None
    if mean:
        assert bool(documents.levels(segments).fit) == (mean != 1.5)
    ours = both(attention_cudnn.attention, made, segments, window)
    expected = both(attention_dense.attention, made, segments, window)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_every_device_has_its_own_rows_and_heads(any_dtype):
    made, _ = arrays(4, 128, 4, 2, 8)
    segments = packed(4, 128, 30)
    expected = both(attention_dense.attention, made, segments, 0)
    with jax.set_mesh(make_mesh("fsdp=4,tensor=2", jax.local_devices())):
        ours = both(attention_cudnn.attention, made, segments, 0)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def calls(program):
    """The custom calls of a lowered program: name, configuration, types and layouts."""
    found = []
    for line in program.splitlines():
        if match := re.search(r"custom_call @(__cudnn\$\w+)\(.*?\) \{(.*)\} : (.*)", line):
            name, told, types = match.groups()
            text = re.search(r'backend_config = "(.*?)"[,}]', told + "}")[1]
            text = re.sub(r"\\([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), text)
            layouts = re.findall(r"dense<[^>]*> : tensor<\d+xindex>", told)
            found.append((name, json.loads(text), layouts, types))
    return found


def lowered(function, *made):
    traced = jax.jit(function).trace(*made)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("window", [0, 40])
@pytest.mark.parametrize("whole", [True, False])
def test_the_calls_are_those_that_jax_writes(monkeypatch, window, whole):
    """Operands, results, layouts and description; without grouped queries, see the module."""
    monkeypatch.setattr(attention_cudnn, "obstacle", lambda *_: "")
    monkeypatch.setattr(fused, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(fused, "check_compute_capability", lambda _: True)
    made, _ = arrays(2, 128, 4, 4, 64, jnp.bfloat16)
    segments = None if whole else packed(2, 128, 30)
    ours = calls(lowered(pulled(attention_cudnn.attention, segments, window), *made))

    def theirs(q, k, v, *, segments, offset, window):
        tables = {}
        if segments is not None:
            lengths, starts = jnp.zeros((2, 8), jnp.int32), jnp.zeros((2, 9), jnp.int32)
            tables = dict.fromkeys(("q_seqlen", "kv_seqlen"), lengths)
            tables |= dict.fromkeys(("q_offsets", "kv_offsets"), starts)
        settings = {"scale": 64**-0.5, "sliding_window_length": window or None}
        causal = fused.MaskType.CAUSAL
        return fused.dot_product_attention(q, k, v, mask_type=causal, **tables, **settings)

    expected = calls(lowered(pulled(theirs, segments, window), *made))
    assert len(expected) == 2 and ours == expected


def test_keys_are_not_repeated_and_documents_are_cut_by_length(monkeypatch):
    monkeypatch.setattr(attention_cudnn, "obstacle", lambda *_: "")
    made, _ = arrays(2, 1024, 4, 2, 64, jnp.bfloat16)
    found = calls(lowered(pulled(attention_cudnn.attention, packed(2, 1024, 30), 0), *made))
    assert [name for name, *_ in found] == ["__cudnn$fmhaSoftmax"] * 2 + [
        "__cudnn$fmhaSoftmaxBackward"
    ] * 2
    for (_, told, _, types), rows, length in zip(found, (2, 16) * 2, (1024, 128) * 2, strict=True):
        told = told[CONFIGURATION]
        assert told["max_seg_per_batch"] == 8 and told["mask_type"] == "CAUSAL"
        assert told["intermediate_tensor_shape"]["dimensions"] == [
            str(n) for n in (rows, 4, length, length)
        ]
        assert f"tensor<{rows}x{length}x2x64xbf16>" in types
        assert f"tensor<{rows * 8}x4x{length}xf32>" in types


def test_the_backward_pass_does_not_run_the_forward_one_again(monkeypatch):
    monkeypatch.setattr(attention_cudnn, "obstacle", lambda *_: "")
    (q, k, v, _), _ = arrays(1, 64, 2, 1, 8, jnp.bfloat16)
    segments = packed(1, 64, 20)

    def layer(*inputs):
        same = segments, segments
        return attention_cudnn.attention(*inputs, segments=same, offset=0, window=0).sum()

    def forwards(policy):
        kept = jax.checkpoint(layer, policy=remat.policy(policy))
        program = lowered(jax.value_and_grad(kept, (0, 1, 2)), q, k, v)
        return [name for name, *_ in calls(program)].count("__cudnn$fmhaSoftmax")

    assert forwards("none") == 1 and forwards("full") == 2


def test_auto_takes_it_where_it_can_and_says_why_not(gpu, monkeypatch):
    assert choose("auto", 4096, 128, jnp.bfloat16) == "cudnn" == check("cudnn", 128, jnp.bfloat16)
    assert described("auto", 4096, 128, jnp.bfloat16) == "attention: cudnn"

    def refused(said, head=128, dtype=jnp.bfloat16):
        with pytest.raises(InputError, match=f"attention 'cudnn' cannot be used: .*{said}"):
            check("cudnn", head, dtype)
        assert choose("auto", 4096, head, dtype) == "chunked"
        assert re.search(said, described("auto", 4096, head, dtype))

    refused("float16, and dtype is float32", dtype=jnp.float32)
    refused("a multiple of 8 up to 256, and the model's have 100", head=100)
    refused("up to 256, and the model's have 320", head=320)
    gpu.compute_capability = "8.6"
    refused("Hopper.*, and this GPU's is 8.6")
    gpu.compute_capability = "10.0"
    assert choose("auto", 64) == "cudnn"
    with jax.set_mesh(make_mesh("fsdp=4,sequence=2", jax.local_devices())):
        refused("whole rows")
    monkeypatch.setenv("XLA_FLAGS", f"{xla.DETERMINISTIC}=true")
    refused("deterministic")
    monkeypatch.delenv("XLA_FLAGS")
    gpu.client.platform_version = "rocm"
    refused("NVIDIA GPUs alone")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("create_dot_product_attention_backend_config", lambda batch: "", "not known here"),
        ("MaskType", SimpleNamespace(), "not known here"),
        ("check_cudnn_version", lambda: 90500, "cuDNN 9.6 or later"),
    ],
)
def test_another_jax_is_refused(gpu, monkeypatch, name, value, said):
    monkeypatch.setattr(fused, name, value)
    with pytest.raises(InputError, match=said):
        check("cudnn")


def test_without_a_gpu_it_is_refused():
    with pytest.raises(InputError, match="NVIDIA GPUs alone, and this is a cpu; choose auto"):
        check("cudnn")
    made, _ = arrays(1, 16, 2, 2, 8, jnp.bfloat16)
    with pytest.raises(InputError, match="NVIDIA GPUs alone"):
        both(attention_cudnn.attention, made, None, 0)


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("mean", [0, 900, 60, 20, 3])
@pytest.mark.parametrize(("S", "H", "K", "E", "window"), [
    (1024, 8, 2, 64, 0), (2048, 4, 4, 128, 0), (1024, 4, 1, 256, 300)
])  # fmt: skip
def test_the_kernels_are_dense_attention(S, H, K, E, window, mean):
    """Within two roundings of the largest value, as on a TPU."""
    made, _ = arrays(2, S, H, K, E, jnp.bfloat16)
    segments = packed(2, S, mean) if mean else None
    ours = both(attention_cudnn.attention, made, segments, window)
    expected = both(
        attention_dense.attention, [x.astype(jnp.float32) for x in made], segments, window
    )
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2**-7 * np.abs(wanted).max())
