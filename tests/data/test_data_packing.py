import numpy as np
import pytest

from maxlite.data import packing
from maxlite.data.packing import KEYS, evaluation_rows, training_row, windows
from maxlite.data.view import View


def stream_of(documents, bos, eos):
    ends = [[] if end is None else [end] for end in (bos, eos)]
    return [(ends[0] + d + ends[1]) for d in documents]


@pytest.mark.parametrize("seq_len", [1, 2, 7, 16, 1000])
@pytest.mark.parametrize(("bos", "eos"), [(1, 2), (None, 2), (1, None), (None, None)])
@pytest.mark.parametrize("chosen", [False, True])
def test_rows_hold_the_documents_end_to_end(
    seq_len, bos, eos, chosen, make_cache, random_documents
):
    index = np.flatnonzero(np.arange(60) % 3) if chosen else None
    view = View(make_cache(random_documents), bos, eos, index)
    kept = random_documents if index is None else [random_documents[i] for i in index]
    documents = stream_of(kept, bos, eos)
    stream = [token for d in documents for token in d]
    number = [i for i, d in enumerate(documents) for _ in d]

    count = windows(view, seq_len)
    assert (count - 1) * seq_len < len(stream) - 1 <= count * seq_len
    for w in range(count):
        row = training_row(view, w, seq_len)
        assert {key: (a.shape, a.dtype) for key, a in row.items()} == {
            key: ((seq_len,), np.dtype(dtype)) for key, dtype in KEYS.items()
        }
        at = range(w * seq_len, min((w + 1) * seq_len, len(stream) - 1))
        n = len(at)
        assert row["tokens"][:n].tolist() == [stream[i] for i in at]
        assert row["targets"][:n].tolist() == [stream[i + 1] for i in at]
        assert row["weights"][:n].tolist() == [number[i] == number[i + 1] for i in at]
        seen = list(dict.fromkeys(number[i] for i in at))
        assert row["segments"][:n].tolist() == [seen.index(number[i]) + 1 for i in at]
        first = {d: next(i for i in at if number[i] == d) for d in seen}
        assert row["positions"][:n].tolist() == [i - first[number[i]] for i in at]
        for key, values in row.items():
            assert not values[n:].any(), key


def test_a_row_by_hand(make_cache):
    view = View(make_cache([[10, 11], [20], [30, 31, 32, 33]]), 1, 2)
    # stream: 1 10 11 2 | 1 20 2 | 1 30 31 32 33 2
    first, second = (training_row(view, w, 8) for w in range(windows(view, 8)))
    assert first["tokens"].tolist() == [1, 10, 11, 2, 1, 20, 2, 1]
    assert first["targets"].tolist() == [10, 11, 2, 1, 20, 2, 1, 30]
    assert first["segments"].tolist() == [1, 1, 1, 1, 2, 2, 2, 3]
    assert first["positions"].tolist() == [0, 1, 2, 3, 0, 1, 2, 0]
    assert first["weights"].tolist() == [1, 1, 1, 0, 1, 1, 0, 1]
    assert second["tokens"].tolist() == [30, 31, 32, 33, 0, 0, 0, 0]
    assert second["targets"].tolist() == [31, 32, 33, 2, 0, 0, 0, 0]
    assert second["segments"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert second["positions"].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]
    assert second["weights"].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


def test_ids_of_16_bits_do_not_wrap(make_cache):
    view = View(make_cache([[65535, 65534]]), 70000, None)
    assert training_row(view, 0, 2)["tokens"].tolist() == [70000, 65535]
    assert training_row(view, 0, 2)["targets"].tolist() == [65535, 65534]


def test_one_token_is_no_window(make_cache):
    assert windows(View(make_cache([[5]]), None, None), 4) == 0
    assert windows(View(make_cache([[5]]), 1, None), 4) == 1


def check_evaluation(documents, window, stride, bos):
    """Replays rows and returns, for each document, how often each of its tokens was scored."""
    rows = list(evaluation_rows(map(np.array, documents), window, stride, bos))
    pieces = []  # windows, from all rows
    for row in rows:
        used = int((row["segments"] > 0).sum())
        assert not any(values[used:].any() for values in row.values())
        for segment in range(1, int(row["segments"].max()) + 1):
            at = np.flatnonzero(row["segments"] == segment)
            assert (np.diff(at) == 1).all() and row["positions"][at].tolist() == list(
                range(len(at))
            )
            pieces.append({key: row[key][at] for key in row})
    for ids in documents:
        sequence = ids if bos is None else [bos, *ids]
        scores = np.zeros(len(sequence), int)
        start = 0
        while len(sequence) > 1 and not scores[1:].all():
            n = min(window, len(sequence) - 1 - start)
            wanted = sequence[start : start + n], sequence[start + 1 : start + n + 1]
            found = [(p["tokens"].tolist(), p["targets"].tolist()) for p in pieces]
            piece = pieces.pop(found.index(wanted))
            for position in np.flatnonzero(piece["weights"]):
                scores[start + 1 + position] += 1
                context = position + 1
                assert context >= min(window - stride, start + 1 + position)
            start += stride
        assert scores.tolist() == [0] + [1] * (len(sequence) - 1) if sequence else True
    assert not pieces
    return rows


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 8), (8, 1), (5, 2), (1, 1), (64, 32)])
@pytest.mark.parametrize("bos", [None, 1])
def test_each_token_is_scored_once(window, stride, bos, random_documents):
    rng = np.random.default_rng(1)
    documents = random_documents + [rng.integers(10, 99, n).tolist() for n in (1, 31, 32, 33, 100)]
    check_evaluation(documents, window, stride, bos)


def test_evaluation_rows_by_hand():
    rows = list(evaluation_rows([np.arange(10, 17), np.array([20])], 4, 2, bos=1))
    # 1 10 11 12 13 14 15 16 in windows of 4 inputs: 1-12, 11-14, 13-15; then 1 20.
    assert [row["tokens"].tolist() for row in rows] == [
        [1, 10, 11, 12],
        [11, 12, 13, 14],
        [13, 14, 15, 1],
    ]
    assert [row["weights"].tolist() for row in rows] == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert rows[2]["targets"].tolist() == [14, 15, 16, 20]
    assert rows[2]["segments"].tolist() == [1, 1, 1, 2]
    assert rows[2]["positions"].tolist() == [0, 1, 2, 0]


def test_short_documents_share_rows(random_documents):
    rows = check_evaluation(random_documents, 64, 32, 1)
    used = sum(map(len, random_documents))
    assert len(rows) <= used / (64 - 14) + 1  # no row wastes more than the longest document


def test_rows_are_nearly_full(monkeypatch):
    """Windows of 40 % to all of a row, which in order would leave a quarter empty."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(10, 500, n).tolist() for n in rng.integers(10, 64, 400)]
    used = sum(map(len, documents))  # with a BOS, and without a last token
    assert len(check_evaluation(documents, 64, 32, 1)) < 1.1 * used / 64
    monkeypatch.setattr(packing, "_FILLING", 1)
    assert len(check_evaluation(documents, 64, 32, 1)) > 1.25 * used / 64


def test_stride_must_fit():
    with pytest.raises(ValueError, match="stride 9"):
        list(evaluation_rows([np.arange(3)], 8, 9))
