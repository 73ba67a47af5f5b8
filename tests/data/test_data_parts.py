import gzip
import json

import fsspec
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.parts import id_parts, text_parts
from maxlite.data.sources import documents
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.counting import count
from maxlite.tokenizer.counts import FileCounts

piece = st.sampled_from(["a", "한", "🙂", " ", "\n", "\r\n", "\r", "\u2028", "\ufeff", "\x00"])
broken = st.sampled_from([b"\xff", b"\xed\x95", b"\xc3"])


@pytest.fixture
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


def read(parts, skipped=None):
    nothing = lambda number: None  # noqa: E731
    return [document for part in parts for document in part.read(nothing, skipped or nothing)]


def write(path, data):
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@given(st.lists(piece, max_size=40).map("".join), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_every_line_is_in_one_part(tmp_path_factory, text, size):
    path = write(tmp_path_factory.mktemp("parts") / "a.txt", text)
    parts = text_parts([path], size=size)
    assert read(parts) == list(documents(path))
    assert sum(part.size for part in parts) == path.stat().st_size
    assert all(part.size <= size and part.name == str(path) for part in parts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=9), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_every_json_line_is_in_one_part(tmp_path_factory, texts, size):
    lines = [json.dumps({"body": text}, ensure_ascii=len(text) % 2 == 0) for text in texts]
    path = write(tmp_path_factory.mktemp("parts") / "a.jsonl", "\n".join(lines))
    assert read(text_parts([path], "body", size=size)) == list(documents(path, "body"))


@given(st.lists(piece.map(str.encode) | broken, max_size=30).map(b"".join), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_invalid_lines_are_named_or_skipped_wherever_parts_begin(tmp_path_factory, data, size):
    path = write(tmp_path_factory.mktemp("parts") / "a.txt", data)
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")

    def valid(raw):
        try:
            return raw.decode() is not None
        except UnicodeDecodeError:
            return False

    wrong = [number for number, raw in enumerate(lines, 1) if not valid(raw)]
    found = []
    for part in text_parts([path], size=size):
        try:
            read([part])
        except InputError as error:
            found.append(str(error).split(": not valid UTF-8")[0])
    assert set(found) <= {f"{path}, line {number}" for number in wrong}
    assert bool(found) == bool(wrong) and found[:1] == [f"{path}, line {n}" for n in wrong[:1]]
    skipped = []
    kept = read(text_parts([path], skip_invalid=True, size=size), skipped.append)
    good = [raw.decode().removesuffix("\r") for raw in lines if valid(raw)]
    # A line end before the end of a file is part of no line, and a lone \r there is one of its own.
    assert len(skipped) == len(wrong)
    assert [text.removesuffix("\r") for text in kept] == [t for t in good if t and not t.isspace()]


@pytest.mark.parametrize("size", [1, 200, 10**6])
def test_parquet_by_row_groups(size, tmp_path):
    texts = [f"row {i} " + "한" * (i % 7) for i in range(40)]
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=8)
    parts = text_parts([path], size=size)
    assert len(parts) == (5 if size == 1 else 1 if size == 10**6 else len(parts))
    assert read(parts) == texts
    assert 0.9 * path.stat().st_size <= sum(p.size for p in parts) <= path.stat().st_size
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [*texts[:20], None, *texts[21:]]}), path, row_group_size=8
    )
    with pytest.raises(InputError, match="row 21: 'text' is not text but NoneType"):
        read(text_parts([path], size=1)[2:])


def test_what_stays_whole(tmp_path):
    text = "one\ntwo\nthree\n" * 20
    for path, txt in (
        (write(tmp_path / "a.txt.gz", text), "line"),
        (write(tmp_path / "a.txt", text), "file"),
    ):
        (part,) = text_parts([path], txt=txt, size=10)
        assert (part.start, part.stop, part.size) == (0, 0, path.stat().st_size)
        assert read([part]) == list(documents(path, txt=txt))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.parquet"])
def test_skipping_in_every_kind(name, tmp_path):
    path = tmp_path / name
    if name == "a.parquet":
        column = pyarrow.array([b"one", b"\xff", b"two"]).view("string")
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), path)
    elif name == "a.jsonl":
        write(path, b'{"text": "one"}\n{"text": "\xff"}\n{"text": "\\ud83d"}\n{"text": "two"}\n')
    else:
        write(path, b"one\n\xff\ntwo\n")
    with pytest.raises(InputError, match=r"(line|row) 2: not valid UTF-8"):
        read(text_parts([path]))
    skipped = []
    assert read(text_parts([path], skip_invalid=True), skipped.append) == ["one", "two"]
    assert skipped == [1] * (2 if name == "a.jsonl" else 1)
    if name == "a.txt":
        assert read(text_parts([path], txt="file", skip_invalid=True), skipped.append) == []
        assert skipped == [1, 1]


def test_a_missing_file_is_refused(tmp_path):
    for name in ("gone.txt", "gone.parquet"):
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            text_parts([tmp_path / name])
    write(tmp_path / "a.parquet", "not one")
    with pytest.raises(InputError, match=r"a\.parquet is not a parquet file that can be read"):
        text_parts([tmp_path / "a.parquet"])


# --- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.bin", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("size", [20, 10**6])
def test_lines_of_ids(name, size, tokenizer, tmp_path):
    rows = [[1, 2, 399], [], [5] * 30, [7]]
    lines = "\n".join(json.dumps({"tokens": ids, "type": 1}) for ids in rows) + "\n"
    write(tmp_path / name, lines)
    counts = count(tokenizer, id_parts(f"{tmp_path}/a.*", tokenizer, size))
    flat = [i for ids in rows for i in ids]
    assert counts.counts.tolist() == np.bincount(flat, minlength=400).tolist()
    expected = FileCounts(str(tmp_path / name), 34, 4, None, None, None)
    assert counts.files == (expected,)


def test_large_files_of_ids_come_in_pieces(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("maxlite.data.parts._IDS", 50)
    write(tmp_path / "a.bin", "".join(f'{{"tokens": [{i}, {i}]}}\n' for i in range(400)))
    batches = read(id_parts(str(tmp_path / "a.bin"), tokenizer))
    assert len(batches) == 16 and max(len(batch.ids) for batch in batches) == 50
    assert np.concatenate([batch.ids for batch in batches]).tolist() == sorted([*range(400)] * 2)
    assert sum(batch.documents for batch in batches) == 400


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[1, 400]", "no id 400, only 0 to 399"),
        ("[1, -3]", "no id -3, only 0 to 399"),
        ("[1.5]", "'tokens' is not a list of whole numbers"),
        ("[true]", "'tokens' is not a list of whole numbers"),
        ("[[1, 2], [3, 4]]", "'tokens' is not a list of whole numbers"),
        ("[[1], [2, 3]]", "'tokens' is not a list of whole numbers"),
        ('"text"', "'tokens' is not a list of whole numbers"),
        ("7", "'tokens' is not a list of whole numbers"),
        ("[1e400]", "'tokens' is not a list of whole numbers"),
        ("[99999999999999999999999]", "'tokens' is not a list of whole numbers"),
    ],
)
def test_bad_ids_are_named(value, message, tokenizer, tmp_path):
    write(tmp_path / "a.bin", f'{{"tokens": [1]}}\n\n{{"tokens": {value}}}\n')
    with pytest.raises(InputError, match=rf"a\.bin, line 3: .*{message}"):
        read(id_parts(str(tmp_path / "a.bin"), tokenizer))


def test_token_caches(tiny_text, tokenizer, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("maxlite.data.parts._IDS", 100)
    monkeypatch.setattr("maxlite.data.parts._CACHE_IDS", 1000)
    cache = tokenize(Source(str(tiny_text / "*.txt")), tokenizer, Data(), False)
    parts = id_parts(str(cache.path), tokenizer)
    assert len(parts) == -(-len(cache.tokens) // 1000)
    assert sum(part.size for part in parts) == cache.tokens.nbytes
    counts = count(tokenizer, parts)
    text = count(tokenizer, text_parts([tiny_text / "en.txt", tiny_text / "xx.txt"]))
    assert counts.counts.tolist() == text.counts.tolist()
    (total,) = counts.files
    assert total.name == str(cache.path) and total.words is None
    for key in ("tokens", "documents", "characters", "bytes"):
        assert getattr(total, key) == getattr(text.total, key)
    other = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    system = fsspec.filesystem("memory")
    for file in cache.path.iterdir():
        system.pipe(f"/counted/made/{file.name}", file.read_bytes())
    system.pipe("/counted/a.jsonl", b'{"tokens": [7, 8]}\n{"tokens": [7]}\n')
    far = count(tokenizer, id_parts("memory://counted/made", tokenizer))
    assert far.counts.tolist() == counts.counts.tolist()
    lines = count(tokenizer, id_parts("memory://counted/*.jsonl", tokenizer))
    assert lines.counts[[7, 8]].tolist() == [2, 1]
    with pytest.raises(InputError, match="memory://counted is not a whole token cache"):
        id_parts("memory://counted", tokenizer)
    system.rm("/counted", recursive=True)
    with pytest.raises(InputError, match=r"was made with the tokenizer .*json .*, not .*\.model"):
        id_parts(str(cache.path), other)


def test_what_holds_no_ids_is_refused(tokenizer, tmp_path):
    write(tmp_path / "a.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="nothing matches"):
        id_parts(f"{tmp_path}/b*", tokenizer)
    with pytest.raises(InputError, match=r"a\.txt holds no ids that can be read: .*\.bin"):
        id_parts(f"{tmp_path}/a*", tokenizer)
    with pytest.raises(InputError, match="folder is not a whole token cache"):
        id_parts(f"{tmp_path}/fold*", tokenizer)
