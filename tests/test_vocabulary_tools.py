"""The tools that change a vocabulary, as a user calls them."""

import importlib.util
import json

import ml_dtypes
import numpy as np
import pytest
from commands import call, done, heavy, refused, run, snapshot
from extended import SYLLABLES, config, extend, new_pieces, split, table

from maxlite.hf import writer
from maxlite.hf.folder import open_folder
from maxlite.state import init
from maxlite.tokenizer import load_tokenizer
from maxlite.transforms import ExtendVocab, Untie

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BF16 = np.dtype(ml_dtypes.bfloat16)


def nearest(values: np.ndarray, dtype: np.dtype) -> bytes:
    if dtype != BF16:
        return values.astype(dtype).tobytes()
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16).tobytes()


# --- extend_vocab ----------------------------------------------------------------------------


@pytest.mark.parametrize("tokenizer", ["model", "json"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 255, 257])
def test_extension(count, tied, dtype, tokenizer, tiny_folder, tmp_path):
    """Old rows keep their bytes; new ones are what the published rules say."""
    source = tiny_folder(tie_word_embeddings=tied, dtype=dtype, tokenizer=tokenizer, shards=2)
    new = extend(source, tmp_path / "new", count)
    out = tmp_path / "out"
    heads = [] if tied else ["--output_init=first"]
    arguments = [f"--model={source}", f"--tokenizer={new}", f"--out={out}", *heads]
    outcome = done(call("tools.extend_vocab", *arguments, f"--json={tmp_path}/figures.json"))

    space = load_tokenizer(source).find("▁")
    splits = [split(piece, space) for piece in new_pieces(count)]
    firsts = [[i for i in ids if i != space][:3] for ids in splits]
    made = sum(map(bool, splits))
    for name, rule, ids in ((EMBEDDING, "mean", splits), (HEAD, "first", firsts))[: 2 - tied]:
        old, now = table(source, name), table(out, name)
        assert now.shape == (400 + count, 32) and now.dtype == old.dtype
        assert now[:400].tobytes() == old.tobytes()
        values = old.astype(np.float32)
        everything = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        wanted = [values[one].mean(axis=0) if one else everything for one in ids]
        assert now[400:].tobytes() == nearest(np.array(wanted), old.dtype)
        assert f"{name}: {made} rows by {rule}" in outcome.out
    assert config(out)["vocab_size"] == 400 + count
    assert config(out)["tie_word_embeddings"] is tied
    assert load_tokenizer(out).fingerprint == load_tokenizer(new).fingerprint

    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [t["name"] for t in figures["tables"]] == [EMBEDDING, HEAD][: 2 - tied]
    told = figures["tables"][-1]
    rule = "mean" if tied else "first"
    assert told["rows"] == {rule: made} | ({"global_mean": 1} if made < count else {})
    norms = np.linalg.norm(table(out, told["name"]).astype(np.float64), axis=1)
    for kind, of in (("old", norms[:400]), ("new", norms[400:])):
        wanted = {"min": of.min(), "median": np.median(of), "max": of.max()}
        assert told["norms"][kind] == pytest.approx(wanted, rel=1e-5)
    distinct = {row.tobytes() for row in table(out, told["name"])}
    assert told["repeated"] == 400 + count - len(distinct)
    assert (figures["base_rows"], figures["rows"]) == (400, 400 + count)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("tokenizer", ["model", "json"])
def test_transformers_reads_it_and_old_ids_are_as_before(tied, tokenizer, tiny_folder, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    source = tiny_folder(tie_word_embeddings=tied, tokenizer=tokenizer, scale=0.2)
    folder = extend(source, tmp_path / "new", 257)
    lone = folder / f"tokenizer.{tokenizer}"
    lone = lone.rename(tmp_path / f"lone.{tokenizer}")  # with no settings beside it
    out = tmp_path / "out"
    done(call("tools.extend_vocab", f"--model={source}", f"--tokenizer={lone}", f"--out={out}"))
    models = [
        transformers.AutoModelForCausalLM.from_pretrained(f, dtype=torch.float32)
        for f in (source, out)
    ]
    ids = torch.tensor([[1, *load_tokenizer(source).encode_one("the tall woman sees the moon")]])
    with torch.no_grad():
        before, after = (model(ids).logits for model in models)
    assert after.shape[-1] == 657 and after.isfinite().all()
    assert (before - after[..., :400]).abs().max() < 1e-5
    assert (models[1].lm_head.weight is models[1].model.embed_tokens.weight) == tied
    text = "the 강산 dog 가 나다"
    theirs = transformers.AutoTokenizer.from_pretrained(out)
    ours = load_tokenizer(out).encode_one(text).tolist()
    assert theirs(text).input_ids == [1, *ours] and max(ours) >= 400
    with torch.no_grad():
        assert models[1](torch.tensor([[1, *ours]])).logits.isfinite().all()


def test_a_run_again_gives_the_same_bytes(tiny_folder, tmp_path):
    source = tiny_folder(dtype="bfloat16")
    new = extend(source, tmp_path / "new", 60)
    arguments = [f"--model={source}", f"--tokenizer={new}", "--match_norms", "--seed=3"]
    arguments += ["--input_init=normal", "--output_init=gaussian"]
    for name in ("a", "b"):
        done(call("tools.extend_vocab", *arguments, f"--out={tmp_path}/{name}"))
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    shards = ["--max_shard_size=20KB", f"--out={tmp_path}/c"]
    done(run("tools.extend_vocab", *arguments, *shards))
    for name in (EMBEDDING, HEAD):
        assert table(tmp_path / "c", name).tobytes() == table(tmp_path / "a", name).tobytes()
        norms = np.linalg.norm(table(tmp_path / "a", name).astype(np.float32), axis=1)
        np.testing.assert_allclose(norms[400:], np.median(norms[:400]), rtol=5e-3)


def test_a_config_does_the_same_as_the_tools(tiny_folder, tmp_path):
    source = tiny_folder(tie_word_embeddings=True)
    new = extend(source, tmp_path / "new", 40)
    flags = [f"--tokenizer={new}", "--output_init=first", f"--out={tmp_path}/tool"]
    done(call("tools.extend_vocab", f"--model={source}", "--untie", *flags))
    extension = ExtendVocab(tokenizer=str(new), output_init="first")
    model = init.apply(open_folder(source), [Untie(), extension])
    writer.write_model(tmp_path / "init", model)
    tool, same = tmp_path / "tool", tmp_path / "init"
    assert (tool / "model.safetensors").read_bytes() == (same / "model.safetensors").read_bytes()
    assert config(tool) == config(same) and config(tool)["tie_word_embeddings"] is False
    assert table(tool, HEAD)[:400].tobytes() == table(source, EMBEDDING).tobytes()
    notes = [json.loads((folder / "maxlite.json").read_text()) for folder in (tool, same)]
    assert notes[0]["vocabulary"] == notes[1]["vocabulary"]
    assert [[h["tool"] for h in note["history"]] for note in notes] == [
        ["extend_vocab"],
        ["untie", "extend_vocab"],
    ]


def test_a_padded_folder(tiny_folder, tmp_path):
    source = tiny_folder(vocab_size=448)
    new = extend(source, tmp_path / "new", 30)
    arguments = [f"--model={source}", f"--tokenizer={new}", f"--out={tmp_path}/out"]
    sentence = refused(tmp_path, "tools.extend_vocab", *arguments)
    assert "448 rows for a tokenizer of 400 ids" in sentence and "--reuse_padding" in sentence
    outcome = done(call("tools.extend_vocab", *arguments, "--reuse_padding"))
    assert "30 of them in the place of surplus ones" in outcome.err
    old, now = (table(folder, EMBEDDING) for folder in (source, tmp_path / "out"))
    assert now.shape == old.shape and now[430:].tobytes() == old[430:].tobytes()
    assert json.loads((tmp_path / "out" / "maxlite.json").read_text())["vocabulary"]["rows"] == 448


def test_the_output_of_one_extension_is_the_input_of_the_next(tiny_folder, tmp_path):
    source = tiny_folder(tokenizer="model")
    for i, count in enumerate((20, 50)):
        new = extend(source, tmp_path / f"new{i}", pieces=new_pieces(70)[i * 20 :][:count])
        out = tmp_path / f"out{i}"
        done(call("tools.extend_vocab", f"--model={source}", f"--tokenizer={new}", f"--out={out}"))
        source = out
    assert open_folder(source).architecture.base_rows == 420
    note = json.loads((source / "maxlite.json").read_text())
    assert [entry["tool"] for entry in note["history"]] == ["extend_vocab"] * 2
    # "가나" has two pieces now, which are new ones of the first extension or bytes
    tokenizer = load_tokenizer(tmp_path / "out0")
    pieces = new_pieces(70)
    i = pieces.index(SYLLABLES[0] * 2)
    assert i >= 20 and tokenizer.encode_inside([pieces[i].encode()])[0].tolist() == [400, 400]
    assert table(source, EMBEDDING)[400 + i].tobytes() == table(source, EMBEDDING)[400].tobytes()


def test_a_tokenizer_that_does_not_fit(tiny_folder, tmp_path):
    source = tiny_folder()
    arguments = [f"--model={source}", f"--out={tmp_path}/out"]
    assert "nothing to extend" in refused(
        tmp_path, "tools.extend_vocab", *arguments, f"--tokenizer={source}"
    )
    assert f"no tokenizer at {tmp_path}/no" in refused(
        tmp_path, "tools.extend_vocab", *arguments, f"--tokenizer={tmp_path}/no"
    )
    other = extend(source, tmp_path / "other", 5)
    tree = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocab = tree["model"]["vocab"]
    last = max(i for i in vocab.values() if i < 400)
    piece = next(p for p, i in vocab.items() if i == last)
    vocab["zzz"] = vocab.pop(piece)
    tree["model"]["merges"] = [m for m in tree["model"]["merges"] if "".join(m) != piece]
    (other / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    sentence = refused(tmp_path, "tools.extend_vocab", *arguments, f"--tokenizer={other}")
    assert "does not extend" in sentence and f"id {last} is 'zzz' there and {piece!r}" in sentence
    bare = tiny_folder("bare", tokenizer="")
    flags = [f"--model={bare}", f"--tokenizer={other}", f"--out={tmp_path}/out"]
    assert "no tokenizer.json" in refused(tmp_path, "tools.extend_vocab", *flags)
    small = tiny_folder("small", vocab_size=300)
    flags[0] = f"--model={small}"
    good = extend(source, tmp_path / "good", 5)
    flags[1] = f"--tokenizer={good}"
    sentence = refused(tmp_path, "tools.extend_vocab", *flags)
    assert "ids up to 399" in sentence and "only 300 rows" in sentence


def test_flags_that_do_not_fit(tiny_folder, tmp_path):
    source = tiny_folder(tie_word_embeddings=True)
    new = extend(source, tmp_path / "new", 5)
    arguments = [f"--model={source}", f"--tokenizer={new}"]
    out = f"--out={tmp_path}/out"
    sentence = refused(tmp_path, "tools.extend_vocab", *arguments, out, "--output_init=mean")
    assert "is tied" in sentence and "--untie" in sentence
    assert "zeros" in refused(tmp_path, "tools.extend_vocab", *arguments, out, "--input_init=zeros")
    assert "seed" in refused(tmp_path, "tools.extend_vocab", *arguments, out, "--seed=-1")
    assert "--out" in refused(tmp_path, "tools.extend_vocab", *arguments)
    assert "--tokenizer" in refused(tmp_path, "tools.extend_vocab", f"--model={source}", out)
    same = refused(tmp_path, "tools.extend_vocab", *arguments, f"--out={source}", "--overwrite")
    assert "is the model itself" in same
    for tool in ("extend_vocab", "untie"):
        flags = arguments if tool == "extend_vocab" else arguments[:1]
        assert f"{new} " in refused(tmp_path, f"tools.{tool}", *flags, f"--out={new}")
    untied = tiny_folder("untied")
    flags = [f"--model={untied}", f"--tokenizer={new}", out, "--untie"]
    assert "is not tied" in refused(tmp_path, "tools.extend_vocab", *flags)
    (tmp_path / "here.png").touch()
    for name, told in (("no/x.png", "folder that does not exist"), ("here.png", "exists")):
        flag = f"--plot={tmp_path}/{name}"
        if importlib.util.find_spec("matplotlib"):
            assert told in refused(tmp_path, "tools.extend_vocab", *arguments, out, flag)


def test_a_dry_run_of_each_writes_nothing(tiny_folder, tmp_path):
    source = tiny_folder(tie_word_embeddings=True)
    new = extend(source, tmp_path / "new", 5)
    (tmp_path / "ids").write_text("".join(f"{i}\n" for i in range(400)))
    before = snapshot(tmp_path)
    for tool, flags in (
        ("extend_vocab", [f"--tokenizer={new}"]),
        ("untie", []),
        ("compact_vocab", [f"--kept_ids={tmp_path}/ids"]),
    ):
        for out in ([], [f"--out={tmp_path}/out", f"--json={tmp_path}/figures.json"]):
            outcome = done(call(f"tools.{tool}", f"--model={source}", *flags, *out, "--dry_run"))
            assert "would write" in outcome.err
    assert snapshot(tmp_path) == before


def test_help_tells_of_every_flag():
    tools = {
        "extend_vocab": "tokenizer input_init output_init reuse_padding untie seed plot",
        "untie": "",
        "compact_vocab": "kept_ids tokenizer",
    }
    for tool, flags in tools.items():
        told = done(call(f"tools.{tool}", "--help")).out
        for flag in (*flags.split(), "model", "out", "json", "overwrite", "dry_run"):
            assert f"--{flag}:" in told or f"--[no]{flag}:" in told, (tool, flag)


def test_a_plot(tiny_folder, tmp_path):
    pytest.importorskip("matplotlib")
    source = tiny_folder()
    new = extend(source, tmp_path / "new", 20)
    arguments = [f"--model={source}", f"--tokenizer={new}", f"--plot={tmp_path}/norms.png"]
    done(call("tools.extend_vocab", *arguments, f"--out={tmp_path}/out"))
    assert (tmp_path / "norms.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.tmp"))


def test_a_plot_without_matplotlib(tiny_folder, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "matplotlib" else find(name, *a),
    )
    source = tiny_folder()
    new = extend(source, tmp_path / "new", 20)
    arguments = [f"--model={source}", f"--tokenizer={new}", f"--plot={tmp_path}/norms.png"]
    sentence = refused(tmp_path, "tools.extend_vocab", *arguments, f"--out={tmp_path}/out")
    assert "maxlite[plot]" in sentence


def test_no_accelerator_library_is_loaded(tiny_folder, tmp_path):
    source = tiny_folder()
    new = extend(source, tmp_path / "new", 20)
    flags = [f"--model={source}", f"--tokenizer={new}", f"--out={tmp_path}/out"]
    assert heavy("tools.extend_vocab", *flags) == "[]"


# --- untie -----------------------------------------------------------------------------------


def test_untying(tiny_folder, tmp_path):
    source = tiny_folder(tie_word_embeddings=True, dtype="bfloat16")
    out = tmp_path / "out"
    outcome = done(call("tools.untie", f"--model={source}", f"--out={out}"))
    assert HEAD in outcome.err and outcome.out == ""
    assert table(out, HEAD).tobytes() == table(source, EMBEDDING).tobytes()
    assert config(out) == config(source) | {"tie_word_embeddings": False}
    assert "is not tied" in refused(
        tmp_path, "tools.untie", f"--model={out}", f"--out={tmp_path}/again"
    )
