import dataclasses
import json

import numpy as np
import pytest

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import names, writer
from maxlite.hf.folder import LazyModel, open_folder
from maxlite.hf.names import EMBEDDING, HEAD
from maxlite.surgery.rows import NewRows, Spans
from maxlite.surgery.tokenizer_files import exchanged
from maxlite.surgery.vocabulary import Vocabulary, compact, extend, read_ids, renumbered, untie


def vocabulary(rows: int, model: LazyModel, path="some/tokenizer", sha256="f00d") -> Vocabulary:
    return Vocabulary(path, rows, sha256, model.files)


def extended(model: LazyModel, count: int, base: int = 400, **settings) -> LazyModel:
    """The model with `count` new pieces of two old ones each, the last without any."""
    ids = np.random.default_rng(5).integers(0, base, 2 * count).astype(np.int32)
    starts = 2 * np.arange(count)
    pieces = Spans(ids, starts, starts + 2 * (starts < starts.max(initial=0)))
    leads = pieces._replace(stops=np.minimum(pieces.stops, starts + 1))
    old, new = vocabulary(base, model, "old", "beef"), vocabulary(base + count, model, "new")
    return extend(model, old, new, pieces, leads, **settings)


def tables(model: LazyModel) -> dict[str, np.ndarray]:
    return {name: model.tensors[name].read() for name in (EMBEDDING, HEAD) if name in model.tensors}


def same_body(one: LazyModel, other: LazyModel) -> bool:
    kept = [name for name in one.tensors if name not in (EMBEDDING, HEAD)]
    return all(one.tensors[name] is other.tensors[name] for name in kept)


# --- untie -----------------------------------------------------------------------------------


def test_untying_copies_the_table(tiny_folder):
    before = open_folder(tiny_folder(tie_word_embeddings=True, dtype="bfloat16"))
    after = untie(before)
    assert list(after.tensors) == list(names.expected(after.architecture))
    assert after.tensors[HEAD] is after.tensors[EMBEDDING] and same_body(before, after)
    assert json.loads(after.rendered())["tie_word_embeddings"] is False
    assert after.parameters == before.parameters + 400 * 32
    assert HEAD in after.notes[-1] and HEAD not in before.tensors
    with pytest.raises(InputError, match="is not tied: it has an output table of its own already"):
        untie(after)


# --- extend ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 255, 257])
def test_rows_are_appended_and_nothing_else_changes(count, tied, dtype, tiny_folder):
    before = open_folder(tiny_folder(tie_word_embeddings=tied, dtype=dtype, shards=2))
    after = extended(before, count)
    new, old = tables(after), tables(before)
    assert new.keys() == old.keys() and len(new) == 2 - tied
    for name, table in new.items():
        assert table.shape == (400 + count, 32) and str(table.dtype) == dtype
        assert table[:400].tobytes() == old[name].tobytes()
        mean = old[name].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(table[-1].astype(np.float64), mean, rtol=5e-3, atol=1e-8)
    assert same_body(before, after)
    was, now = (dataclasses.asdict(model.architecture) for model in (before, after))
    assert now == was | {"vocab_size": 400 + count, "base_rows": 400}
    was, now = json.loads((before.path / "config.json").read_bytes()), json.loads(after.rendered())
    assert now == was | {"vocab_size": 400 + count}
    inits = {"input_init": "mean"} | ({} if tied else {"output_init": "mean"})
    assert after.metadata["vocabulary"] == {
        "base_rows": 400,
        "rows": 400 + count,
        **inits,
        "tokenizer_sha256": "f00d",
        "base_tokenizer_sha256": "beef",
    }
    out = writer.write_model(before.path.parent / "out", after)
    again = open_folder(out)
    assert again.architecture == after.architecture and again.metadata["vocabulary"]
    for name, table in tables(again).items():
        assert table.tobytes() == new[name].tobytes()


def test_the_two_tables_have_rules_of_their_own(tiny_folder):
    before = open_folder(tiny_folder())
    after = extended(before, 30, input_init="first", output_init="mean")
    old, new = tables(before), tables(after)
    ids = np.random.default_rng(5).integers(0, 400, 60).reshape(30, 2)[:29]
    assert new[EMBEDDING][400:-1].tobytes() == old[EMBEDDING][ids[:, 0]].tobytes()
    assert new[HEAD][400:-1].tobytes() == old[HEAD][ids].mean(axis=1).tobytes()
    added = after.tensors[HEAD].parts[1]
    assert isinstance(added, NewRows) and added.counts == {"mean": 29, "global_mean": 1}
    assert "29 by first, 1 by global_mean" in after.notes[-2]

    noise = tables(extended(before, 30, input_init="normal", output_init="normal"))
    assert not np.array_equal(noise[EMBEDDING][400:], noise[HEAD][400:])
    other = tables(extended(before, 30, input_init="normal", output_init="normal", seed=1))
    assert not np.array_equal(noise[EMBEDDING][400:], other[EMBEDDING][400:])


def test_surplus_rows_are_reused_on_request_only(tiny_folder):
    before = open_folder(tiny_folder(vocab_size=448))
    with pytest.raises(InputError, match=r"448 rows for a tokenizer of 400 ids.*--reuse_padding"):
        extended(before, 10)
    few = extended(before, 10, reuse_padding=True)
    for name, table in tables(few).items():
        old = tables(before)[name]
        assert table.shape == (448, 32)
        assert table[:400].tobytes() == old[:400].tobytes()
        assert table[410:].tobytes() == old[410:].tobytes()
        mean = old[:400].astype(np.float64).mean(axis=0)  # surplus rows are not old ones
        np.testing.assert_allclose(table[409], mean, rtol=1e-5, atol=1e-8)
        assert not np.array_equal(table[400:410], old[400:410])
    assert few.architecture.vocab_size == 448 and few.architecture.base_rows == 400
    assert few.metadata["vocabulary"]["rows"] == 448
    assert json.loads(few.rendered()) == json.loads((before.path / "config.json").read_bytes())

    exact, many = (extended(before, n, reuse_padding=True) for n in (48, 100))
    assert [m.architecture.vocab_size for m in (exact, many)] == [448, 500]
    assert tables(many)[EMBEDDING][:400].tobytes() == tables(before)[EMBEDDING][:400].tobytes()
    assert "448 vocabulary rows -> 500, 100 new, 48 of them in the place" in many.notes[0]


def test_extending_twice(tiny_folder):
    before = open_folder(tiny_folder())
    twice = extended(extended(before, 30), 7, base=430, input_init="gaussian")
    assert twice.architecture.vocab_size == 437 and twice.architecture.base_rows == 430
    once = writer.write_model(before.path.parent / "once", extended(before, 30))
    apart = extended(open_folder(once), 7, base=430, input_init="gaussian")
    for name, table in tables(twice).items():
        assert table.tobytes() == tables(apart)[name].tobytes()


@pytest.mark.parametrize(
    ("folder", "settings", "message"),
    [
        (
            {},
            {"input_init": "zeros"},
            "input_init 'zeros' is not a rule: choose one of mean, first",
        ),
        ({}, {"output_init": "avg"}, "output_init 'avg' is not a rule"),
        ({}, {"seed": -1}, "seed -1 is negative"),
        (
            {"tie_word_embeddings": True},
            {"output_init": "mean"},
            r"is tied, so it has no output table for output_init=mean.*--untie",
        ),
        ({"vocab_size": 390}, {}, "old has token ids up to 399, but .* has only 390 rows"),
        ({"vocab_size": 390}, {"reuse_padding": True}, "has only 390 rows"),
    ],
)
def test_what_is_refused(folder, settings, message, tiny_folder):
    with pytest.raises(InputError, match=message):
        extended(open_folder(tiny_folder(**folder)), 5, **settings)


def test_parameters_as_published():
    """SOLAR 10.7B, and EEVE 10.8B with 8,960 more rows in both tables."""
    solar = Architecture(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    eeve = dataclasses.replace(solar, vocab_size=32000 + 8960, base_rows=32000)
    counts = [sum(int(np.prod(s)) for s in names.expected(a).values()) for a in (solar, eeve)]
    assert counts == [10_731_524_096, 10_804_924_416]


# --- files -----------------------------------------------------------------------------------


def test_a_whole_folder_of_a_tokenizer_replaces_the_old_one(tmp_path):
    old = dict.fromkeys(
        "LICENSE generation_config.json tokenizer.model tokenizer.json tokenizer_config.json"
        " special_tokens_map.json added_tokens.json kept_ids.txt".split(),
        b"{}",
    )
    new = {"tokenizer.json": b"new", "tokenizer_config.json": b"{}"}
    files = exchanged(old, new, same_ids=True)
    kept = dict.fromkeys(("LICENSE", "generation_config.json", "kept_ids.txt"), b"{}")
    assert files == kept | new


def test_settings_and_templates_go_on_to_hold_for_a_lone_file():
    settings = {"bos_token": "<s>", "added_tokens_decoder": {"1": {"content": "<s>"}}}
    old = {
        "tokenizer.json": b"old",
        "tokenizer_config.json": json.dumps(settings).encode(),
        "special_tokens_map.json": b"{}",
        "added_tokens.json": b"{}",
        "chat_template.jinja": b"hello",
        "additional_chat_templates/tools.jinja": b"tools",
    }
    files = exchanged(old, {"tokenizer.json": b"new"}, same_ids=True)
    assert files == old | {"tokenizer.json": b"new"}
    files = exchanged(old, {"tokenizer.json": b"new"}, same_ids=False)
    assert json.loads(files.pop("tokenizer_config.json")) == {"bos_token": "<s>"}
    assert files.keys() == old.keys() - {"tokenizer_config.json", "added_tokens.json"}


@pytest.mark.parametrize("same_ids", [False, True])
def test_chat_templates_are_carried_unless_there_are_new_ones(same_ids):
    template = [{"name": "default", "template": "a"}, {"name": "rag", "template": "b"}]
    for inline, files in (
        ("a", {"chat_template.jinja": b"a"}),
        (template, {"chat_template.jinja": b"a", "additional_chat_templates/rag.jinja": b"b"}),
    ):
        old = {"tokenizer_config.json": json.dumps({"chat_template": inline}).encode()}
        plain = {"tokenizer.json": b"", "tokenizer_config.json": b"{}"}
        assert exchanged(old, plain, same_ids) == plain | files
        inner = plain | {"tokenizer_config.json": b'{"chat_template": "mine"}'}
        assert exchanged(old, inner, same_ids) == inner
        beside = plain | {"chat_template.jinja": b"mine"}
        assert exchanged(old, beside, same_ids) == beside
    outside = [{"name": "../../x", "template": "b"}]
    old = {"tokenizer_config.json": json.dumps({"chat_template": outside}).encode()}
    with pytest.raises(InputError, match="cannot be the name of a file"):
        exchanged(old, {"tokenizer_config.json": b"{}"}, same_ids)


# --- compact ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_all_ids_are_the_identity(tied, tiny_folder):
    before = open_folder(tiny_folder(tie_word_embeddings=tied, dtype="bfloat16", vocab_size=448))
    own = vocabulary(400, before)
    after = compact(before, np.arange(448), own, None)
    assert after.rendered() == (before.path / "config.json").read_bytes()
    assert after.files.keys() - before.files.keys() == {"kept_ids.txt"}
    assert all(after.files[name] == before.files[name] for name in before.files)
    out = writer.write_model(before.path.parent / "out", after)
    plain = writer.write_model(before.path.parent / "plain", before)
    name = "model.safetensors"
    assert (out / name).read_bytes() == (plain / name).read_bytes()
    assert (out / "kept_ids.txt").read_text() == "".join(f"{i}\n" for i in range(448))
    assert open_folder(out).metadata["kept_ids"] == "kept_ids.txt"


@pytest.mark.parametrize("tied", [False, True])
def test_rows_are_gathered_and_ids_renumbered(tied, tiny_folder):
    before = open_folder(
        tiny_folder(
            tie_word_embeddings=tied, eos_token_id=[2, 301], pad_token_id=-1, bos_token_id=None
        )
    )
    (before.path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [301, 2], "pad_token_id": 7, "bos_token_id": None, "top_k": 7})
    )
    kept = np.array([1, 2, 5, 6, 7, 300, 301, 399])
    after = compact(extended(before, 4), kept, vocabulary(404, before), vocabulary(8, before))
    for name, table in tables(after).items():
        assert table.tobytes() == tables(before)[name][kept].tobytes()
    assert same_body(before, after)
    assert after.architecture.vocab_size == 8 and after.architecture.base_rows == 0
    assert after.metadata["vocabulary"] | {"rows": 8} == after.metadata["vocabulary"]
    assert "base_rows" not in after.metadata["vocabulary"]
    config = json.loads(after.rendered())
    assert config["vocab_size"] == 8 and config["eos_token_id"] == [1, 6]
    assert config["pad_token_id"] == -1
    assert config["bos_token_id"] == 0, "which transformers would have taken to be 1"
    assert (after.architecture.bos_token_id, after.architecture.eos_token_id) == (0, 1)
    generation = json.loads(after.files["generation_config.json"])
    assert generation == {
        "eos_token_id": [6, 1],
        "pad_token_id": 4,
        "bos_token_id": None,
        "top_k": 7,
    }
    out = open_folder(writer.write_model(before.path.parent / "out", after))
    assert out.architecture == after.architecture
    assert (out.path / "kept_ids.txt").read_text().split() == [str(i) for i in kept]


def test_the_models_own_tokenizer_stays_where_it_fits(tiny_folder):
    before = open_folder(tiny_folder(vocab_size=448))
    own = vocabulary(400, before)
    cut = compact(before, np.arange(400), own, None)
    assert tables(cut)[HEAD].tobytes() == tables(before)[HEAD][:400].tobytes()
    for kept in (np.arange(399), np.arange(1, 401)):
        with pytest.raises(InputError, match=r"400 ids.* give the compacted one \(--tokenizer\)"):
            compact(before, kept, own, None)
    compact(before, np.arange(1, 401), None, None)  # without a tokenizer none can be wrong


def test_a_tokenizer_of_another_size_is_refused(tiny_folder):
    before = open_folder(tiny_folder())
    for rows in (9, 11):
        with pytest.raises(InputError, match=f"has {rows} ids, but 10 rows are kept"):
            compact(before, np.arange(10), vocabulary(400, before), vocabulary(rows, before))


def test_ids_that_a_config_names_must_be_kept(tiny_folder):
    before = open_folder(tiny_folder())
    with pytest.raises(InputError, match=r"config\.json has bos_token_id 1, which is not among"):
        compact(before, np.arange(2, 12), None, vocabulary(10, before))
    kept = np.array([1, 2, 5])
    where = "generation_config.json"
    config = {
        "pad_token_id": None,
        "suppress_tokens": [5, 1],
        "bad_words_ids": [[1, 5], [2]],
        "max_new_tokens": 9,
        "return_dict": True,
    }
    wanted = config | {"suppress_tokens": [2, 0], "bad_words_ids": [[0, 2], [1]]}
    assert renumbered(config, kept, where) == wanted
    for bad in (
        {"eos_token_id": [1, 9]},
        {"pad_token_id": 32000},
        {"bad_words_ids": [[3]]},
        {"forced_eos_token_id": 4},
    ):
        key = next(iter(bad))
        with pytest.raises(InputError, match=rf"{where} has {key} \d+, which is not among the ids"):
            renumbered(bad, kept, where)
    with pytest.raises(InputError, match="sequence_bias"):
        renumbered({"sequence_bias": [[[1], -1.0]]}, kept, where)


def test_a_file_of_ids(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeff7\r\n3\r\n\r\n 399 \r\n0".encode())
    np.testing.assert_array_equal(read_ids(path, 400), [0, 3, 7, 399])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n1\n", r"ids\.txt, line 3: id 1 is in line 1 already"),
        ("1\n<s>\n", r"line 2: '<s>' is not a token id"),
        ("1\n-2\n", r"line 2: '-2' is not"),
        ("1\n2.0\n", r"line 2: '2\.0' is not"),
        ("1 2\n", r"line 1: '1 2' is not"),
        ("²\n", r"line 1: '²' is not"),
        ("1\n400\n", r"line 2: the model has no row 400, only 400"),
        ("9" * 5000 + "\n", r"line 1: '9{40}' is not"),
        ("\n\n", "holds no ids"),
    ],
)
def test_bad_files_of_ids(text, message, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=message):
        read_ids(path, 400)


def test_unreadable_files_of_ids(tmp_path):
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe1")
    for name in ("ids.txt", "none.txt", ""):
        with pytest.raises(InputError, match="cannot be read as a list of ids"):
            read_ids(tmp_path / name, 400)
