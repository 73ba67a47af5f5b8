import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.counts import Counts, FileCounts, fallback_ids, read_counts

ROWS = 7
figure = st.integers(0, 2**40)
unsaid = st.none() | figure


@st.composite
def some_counts(draw):
    """Counts whose files hold all their tokens."""
    numbers = np.array(draw(st.lists(figure, min_size=ROWS, max_size=ROWS)), np.int64)
    share = draw(st.integers(0, int(numbers.sum())))
    tokens = [share, int(numbers.sum()) - share]
    names = [draw(st.sampled_from("abc")), draw(st.text(max_size=3))]
    files = tuple(
        FileCounts(name, n, draw(figure), draw(unsaid), draw(unsaid), draw(unsaid), draw(figure))
        for name, n in zip(names, tokens, strict=True)
    )
    return Counts("f", numbers, files)


@given(some_counts(), some_counts(), some_counts())
@settings(max_examples=60, deadline=None)
def test_adding_is_associative_and_commutative(a, b, c):
    both = (a + b) + c
    assert both == a + (b + c) == c + b + a
    assert both.total.tokens == both.counts.sum() == sum(x.total.tokens for x in (a, b, c))
    assert len(both.files) == 6
    known = [x.total.words for x in (a, b, c)]
    assert both.total.words == (None if None in known else sum(known))


@given(some_counts())
@settings(max_examples=40, deadline=None)
def test_a_file_holds_it_all(tmp_path_factory, counts):
    path = tmp_path_factory.mktemp("counts") / "c.json"
    counts.write(path)
    if counts.counts.any():
        assert read_counts(path) == counts
    else:
        with pytest.raises(InputError, match="holds no tokens"):
            read_counts(path)
    assert [file.name for file in path.parent.iterdir()] == ["c.json"]


def counted(*numbers, fingerprint="f", name="x"):
    file = FileCounts(name, sum(numbers), 1, 2, 3, 4)
    return Counts(fingerprint, np.array(numbers, np.int64), (file,))


def test_equality_sees_everything():
    a = counted(1, 2)
    assert a == counted(1, 2)
    assert a != counted(2, 1)
    assert a != counted(1, 2, name="y") and a != counted(1, 2, fingerprint="g")
    assert a != counted(1, 2, 0) and a != "a"


def test_other_tokenizers_are_refused(tiny_tokenizer):
    with pytest.raises(InputError, match=r"2 ids \(f…\), the other 2 ids \(g…\)"):
        counted(1, 2) + counted(1, 2, fingerprint="g")
    with pytest.raises(InputError, match="cannot be added"):
        counted(1, 2) + counted(1, 2, 3)
    fast = load_tokenizer(tiny_tokenizer)
    slow = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    counts = Counts(slow.fingerprint, np.ones(400, np.int64), (FileCounts("x", 400),))
    counts.check(slow)
    counts.check(fast, slow)
    with pytest.raises(InputError, match=r"the counts in c were made with another .*400 ids") as e:
        counts.check(fast, where="the counts in c")
    assert slow.fingerprint[:12] in str(e.value) and fast.fingerprint[:12] in str(e.value)
    with pytest.raises(InputError, match="another tokenizer"):
        Counts(slow.fingerprint, np.ones(399, np.int64), ()).check(slow)


def test_coverage():
    counts = counted(5, 0, 80, 10, 5)  # 80, 90, 95, 100
    assert counts.coverage([0.5, 0.8, 0.81, 0.9, 0.95, 0.951, 1]) == [1, 1, 2, 2, 3, 4, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "something"}, "is not a file of token counts"),
        ({"format": 2}, "has the format 2 of token counts, not 1"),
        ({"format": None}, "has the format None"),
        ({"rows": 3}, "damaged: it has 2 counts for 3 rows"),
        ({"counts": [4, -1]}, "damaged: 'counts' holds -1"),
        ({"counts": [1.0, 2]}, r"damaged: 'counts' holds 1\.0"),
        ({"counts": [True, 2]}, "damaged: 'counts' holds True"),
        ({"counts": [2**63, 0]}, f"damaged: 'counts' holds {2**63}"),
        ({"counts": [2, 2]}, "damaged: its figures don't add up"),
        ({"tokens": 4}, "damaged: its figures don't add up"),
        ({"bytes": 5}, "damaged: its figures don't add up"),
        ({"words": None}, "damaged: its figures don't add up"),
        ({"files": []}, "damaged: its figures don't add up"),
        ({"files": 3}, "damaged: "),
        ({"files": [3]}, "damaged: "),
        ({"files": [{"name": "x"}]}, "damaged: there is no 'tokens'"),
        ({"counts": [0, 0], "tokens": 0, "files": []}, "damaged: its figures don't add up"),
    ],
)
def test_damaged_files_are_refused(change, message, tmp_path):
    path = tmp_path / "c.json"
    counted(1, 2).write(path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | change))
    with pytest.raises(InputError, match=message) as error:
        read_counts(path)
    assert str(path) in str(error.value)


def test_negative_figures_of_a_file_are_refused(tmp_path):
    path = tmp_path / "c.json"
    counted(1, 2).write(path)
    value = json.loads(path.read_text())
    value["files"][0]["documents"] = -1
    path.write_text(json.dumps(value | {"documents": -1}))
    with pytest.raises(InputError, match="damaged: 'documents' holds -1"):
        read_counts(path)


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 100000])
def test_other_files_are_refused(data, tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match="is not a file of token counts"):
        read_counts(path)
    with pytest.raises(InputError, match="nowhere cannot be read"):
        read_counts(tmp_path / "nowhere")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    counted(1, 2).write(path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        counted(3, 4).write(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]


def test_fallback_ids(tiny_tokenizer, tmp_path, llama3_json):
    assert fallback_ids(load_tokenizer(tiny_tokenizer)).tolist() == list(range(3, 259))
    path = tmp_path / "tokenizer.json"
    path.write_text(llama3_json)
    tokenizer = load_tokenizer(path)
    found = fallback_ids(tokenizer).tolist()
    raw = [tokenizer.raw(i) or b"" for i in range(tokenizer.rows)]
    assert len(found) >= 128  # every byte above ASCII by itself
    assert found == [
        i for i in range(len(raw)) if raw[i].decode("utf-8", "replace").count("\ufffd")
    ]
