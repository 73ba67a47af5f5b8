"""A Llama folder of random weights, as large as it is needed."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import ml_dtypes
import numpy as np

from maxlite import parameters
from maxlite.config import Architecture
from maxlite.hf import config_json, json_values, names, writer
from maxlite.hf.folder import open_folder

_LETTERS = "▁abcdefghijklmnopqrstuvwxyz"
_POOL = 1 << 23  # values; odd-sized tensors take it from other places, so that no two are alike


def architecture(nbytes: int) -> Architecture:
    """A shape whose bfloat16 weights take at least `nbytes`, by its depth.

    Its layers are like Mistral-7B's from 10 GB on (14.48 GB are its 32), like TinyLlama's from 1 GB
    on, and small below.
    """
    width, ffn, heads, kv = 256, 704, 4, 4
    if nbytes >= 10**9:
        width, ffn, heads = 2048, 5632, 32
    if nbytes >= 10**10:
        width, ffn, kv = 4096, 14336, 8
    arch = Architecture(
        model_type="llama",
        vocab_size=32000 if nbytes >= 10**9 else 2000,
        hidden_size=width,
        intermediate_size=ffn,
        num_hidden_layers=1,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
    )
    sizes = {name: math.prod(shape) for name, shape in parameters.shapes(arch).items()}
    layer = 2 * sum(size for name, size in sizes.items() if name.startswith(parameters.LAYERS))
    table = 2 * arch.vocab_size * width
    arch.num_hidden_layers = max(1, math.ceil((nbytes - 2 * table) / layer))
    return arch


def write(folder: Path, arch: Architecture) -> None:
    """Writes a model folder in bfloat16, in shards, one tensor in memory at a time.

    Args:
      folder: must not exist.
      arch: its shape.
    """
    rng = np.random.default_rng(0)
    pool = (rng.standard_normal(_POOL, np.float32) * 0.02).astype(ml_dtypes.bfloat16)
    shapes = names.expected(arch)

    def read(name: str) -> np.ndarray:
        shape = shapes[name]
        if len(shape) == 1:  # a norm; at 0.02 all scores would be the same
            return np.ones(shape, ml_dtypes.bfloat16)
        return np.resize(np.roll(pool, int(rng.integers(_POOL))), shape)

    writer.write_folder(
        folder,
        config=json_values.dump(config_json.config_for(arch, "bfloat16")),
        specs={name: ("bfloat16", shape) for name, shape in shapes.items()},
        read=read,
        max_shard_size=10**9,
    )


def write_tokenizers(folder: Path, extended: Path | None = None) -> None:
    """Writes a SentencePiece tokenizer into a model folder, and one that extends it by 28 %.

    Its pieces are the bytes and made-up words; a new piece is two old ones together.

    Args:
      folder: a model folder.
      extended: the folder of the extended one, which must not exist; None leaves that out.
    """
    from sentencepiece import sentencepiece_model_pb2 as pb2

    rows = open_folder(folder).architecture.vocab_size
    proto = pb2.ModelProto()
    proto.trainer_spec.model_type = proto.trainer_spec.BPE
    proto.trainer_spec.byte_fallback = True
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.remove_extra_whitespaces = False
    kinds = proto.SentencePiece
    special = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    special += [(f"<0x{i:02X}>", kinds.BYTE) for i in range(256)]
    words = ("".join(w) for n in (1, 2, 3, 4) for w in itertools.product(_LETTERS, repeat=n))
    old = list(itertools.islice(words, rows - len(special)))
    for text, kind in [*special, *((word, kinds.NORMAL) for word in old)]:
        proto.pieces.add(piece=text, score=-float(len(proto.pieces)), type=kind)
    (folder / "tokenizer.model").write_bytes(proto.SerializeToString())
    if extended is None:
        return
    for i in range(rows * 28 // 100):
        text = old[-1 - i] + old[i % len(_LETTERS)]
        proto.pieces.add(piece=text, score=-float(len(proto.pieces)), type=kinds.NORMAL)
    extended.mkdir()
    (extended / "tokenizer.model").write_bytes(proto.SerializeToString())
