"""compact_vocab, as a user calls it, and the same by a config."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import call, done, refused, snapshot
from extended import config, table
from safetensors.numpy import load_file

from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.state import init
from maxlite.tokenizer import load_tokenizer
from maxlite.transforms import CompactVocab, ExtendVocab

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def compacted_tokenizer(source: Path, target: Path, kept: list[int]) -> Path:
    from sentencepiece import sentencepiece_model_pb2 as pb2

    proto = pb2.ModelProto()
    proto.ParseFromString((source / "tokenizer.model").read_bytes())
    pieces = [proto.pieces[i] for i in kept]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    target.write_bytes(proto.SerializeToString())
    return target


def test_compaction(tiny_folder, tmp_path):
    source = tiny_folder(tokenizer="model", eos_token_id=[2, 350], dtype="bfloat16")
    kept = [0, 1, 2, *range(3, 259), *range(300, 390, 3), 350, 398]
    kept = sorted({*kept})
    small = compacted_tokenizer(source, tmp_path / "small.model", kept)
    shuffled = np.random.default_rng(0).permutation(kept)
    (tmp_path / "ids").write_text("\n".join(map(str, shuffled)))
    out = tmp_path / "out"
    flags = [f"--model={source}", f"--kept_ids={tmp_path}/ids", f"--out={out}"]
    sentence = refused(tmp_path, "tools.compact_vocab", *flags)
    assert "400 ids" in sentence and "--tokenizer" in sentence
    outcome = done(
        call("tools.compact_vocab", *flags, f"--tokenizer={small}", f"--json={tmp_path}/f.json")
    )
    assert f"400 vocabulary rows -> {len(kept)}" in outcome.err
    for name in (EMBEDDING, HEAD):
        assert table(out, name).tobytes() == table(source, name)[kept].tobytes()
    assert config(out)["eos_token_id"] == [2, kept.index(350)]
    assert config(out)["vocab_size"] == len(kept)
    assert (out / "kept_ids.txt").read_text().split() == [str(i) for i in kept]
    note = json.loads((out / "maxlite.json").read_text())
    assert note["kept_ids"] == "kept_ids.txt" and note["vocabulary"]["rows"] == len(kept)
    assert json.loads((tmp_path / "f.json").read_text())["rows"] == len(kept)
    big, now = load_tokenizer(source), load_tokenizer(out)
    assert [now.piece(i) for i in range(now.rows)] == [big.piece(i) for i in kept]
    assert (now.bos, now.eos) == (1, 2)

    (tmp_path / "fewer").write_text("\n".join(map(str, kept[:-1])))
    flags[1] = f"--kept_ids={tmp_path}/fewer"
    flags[2] = f"--out={tmp_path}/out2"
    sentence = refused(tmp_path, "tools.compact_vocab", *flags, f"--tokenizer={small}")
    assert f"has {len(kept)} ids" in sentence and f"{len(kept) - 1} rows" in sentence
    swapped = sorted({*kept[:-1], 399})
    (tmp_path / "fewer").write_text("\n".join(map(str, swapped)))
    sentence = refused(tmp_path, "tools.compact_vocab", *flags, f"--tokenizer={small}")
    assert "does not belong to these ids" in sentence and repr(big.piece(399)) in sentence


def test_keeping_everything_changes_nothing(tiny_folder, tmp_path):
    source = tiny_folder(vocab_size=448, dtype="bfloat16")
    (tmp_path / "ids").write_text("".join(f"{i}\n" for i in reversed(range(448))))
    out = tmp_path / "out"
    flags = [f"--model={source}", f"--kept_ids={tmp_path}/ids", f"--out={out}"]
    done(call("tools.compact_vocab", *flags))
    before, after = snapshot(source), snapshot(out)
    weights = "model.safetensors"
    assert load_file(source / weights).keys() == load_file(out / weights).keys()
    for name, tensor in load_file(source / weights).items():
        assert tensor.tobytes() == table(out, name).tobytes()
    del before[weights], after[weights]
    assert after | before == after
    assert after.keys() - before.keys() == {"maxlite.json", "kept_ids.txt"}


def test_ids_that_do_not_fit(tiny_folder, tmp_path):
    source = tiny_folder()
    flags = [f"--model={source}", f"--out={tmp_path}/out"]
    assert "--kept_ids" in refused(tmp_path, "tools.compact_vocab", *flags)
    flags.append(f"--kept_ids={tmp_path}/ids")
    assert "cannot be read" in refused(tmp_path, "tools.compact_vocab", *flags)
    for text, told in (("1\n1\n", "line 2"), ("1\n2\nx\n", "line 3: 'x'"), ("400\n", "line 1")):
        (tmp_path / "ids").write_text(text)
        assert told in refused(tmp_path, "tools.compact_vocab", *flags)
    kept = [0, *range(2, 400)]
    (tmp_path / "ids").write_text("".join(f"{i}\n" for i in kept))
    small = compacted_tokenizer(source, tmp_path / "small.model", kept)
    sentence = refused(tmp_path, "tools.compact_vocab", *flags, f"--tokenizer={small}")
    assert "bos_token_id 1, which is not among the ids to keep" in sentence


def test_a_config_compacts_too(tiny_folder, tmp_path):
    model = open_folder(tiny_folder(vocab_size=448))
    (tmp_path / "ids").write_text("".join(f"{i}\n" for i in range(400)))
    after = init.apply(model, [CompactVocab(kept_ids=str(tmp_path / "ids"))])
    assert after.tensors[HEAD].shape == (400, 32)
    assert after.metadata["history"][-1]["tool"] == "compact_vocab"
    for empty in (CompactVocab(), ExtendVocab()):
        with pytest.raises(InputError, match=r"has no (kept_ids|tokenizer); name"):
            init.apply(model, [empty])
