"""Selection against its formula, by brute force and by frequencies over many seeds."""

import hashlib
import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.candidates import Candidates
from maxlite.corpus.selection import drawn, select
from maxlite.errors import InputError

BASE, ROWS = 10, 16
WORDS = st.lists(st.integers(0, ROWS - 1), max_size=12)
CORPUS = st.lists(WORDS, min_size=1, max_size=14).filter(
    lambda documents: any(t >= BASE for ids in documents for t in ids)
)


def candidates(documents, index=None):
    hashes = [
        int.from_bytes(hashlib.blake2b(bytes(ids), digest_size=8).digest(), "little")
        for ids in documents
    ]
    return Candidates(
        tokens=np.array([t for ids in documents for t in ids], np.uint16),
        offsets=np.cumsum([0, *map(len, documents)], dtype=np.uint64),
        hashes=np.array(hashes, np.uint64),
        index=index,
    )


def random_documents(seed=0, count=400, new=40):
    """Documents of 1 to 30 ids; the new ones as rare as words are."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        old = rng.integers(0, BASE, rng.integers(1, 20))
        fresh = BASE + np.minimum(rng.zipf(1.6, rng.integers(0, 10)) - 1, new - 1)
        made.append(rng.permutation([*old, *fresh]).tolist())
    return made, BASE + new


def chosen(documents, **settings):
    rows = settings.pop("rows", ROWS)
    return select([candidates(documents)], BASE, rows, progress=False, **settings)


def scores_of(documents):
    counts = Counter(t for ids in documents for t in ids if t >= BASE)
    most = max(counts.values())
    return [
        sum(n / len(ids) * (1 + math.log(most / counts[t]))
            for t, n in Counter(ids).items() if t >= BASE) if ids else 0.0
        for ids in documents
    ]  # fmt: skip


def by_hand(documents, share, by, temperature, min_count, seed):
    """What the docstrings say, one document after the other."""
    scores = scores_of(documents)
    order = drawn(np.array(scores), candidates(documents).hashes, temperature, seed).tolist()
    there, taken, first = Counter(t for ids in documents for t in ids), Counter(), []
    for d in order:
        targets = {t: min(min_count, there[t]) for t in documents[d] if t >= BASE}
        if any(taken[t] < target for t, target in targets.items()):
            first.append(d)
            taken.update(documents[d])
    sizes = [len(ids) if by == "tokens" else 1 for ids in documents]
    kept, left = [], share * sum(sizes)
    for d in [*first, *(d for d in order if d not in first)]:
        if sizes[d] > left + 1e-9:
            break
        kept.append(d)
        left -= sizes[d]
    return sorted(kept)


@settings(max_examples=60, deadline=None)
@given(
    CORPUS,
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from(["tokens", "documents"]),
    st.sampled_from([0.0, 0.5, 1.0, 30.0, math.inf]),
    st.integers(0, 5),
    st.integers(0, 9),
    st.integers(1, 40),
)
def test_it_is_what_going_through_the_documents_gives(
    documents, share, by, temperature, min_count, seed, chunk
):
    wanted = by_hand(documents, share, by, temperature, min_count, seed)
    asked = {"share": share, "by": by, "temperature": temperature}
    asked |= {"min_count": min_count, "seed": seed}
    if not wanted:
        with pytest.raises(InputError, match="not one document"):
            chosen(documents, chunk=chunk, **asked)
        return
    found = chosen(documents, chunk=chunk, **asked)
    assert found.documents[0].tolist() == wanted
    assert found.documents[0].dtype == np.int64
    counts = Counter(t for d in wanted for t in documents[d])
    assert found.after.tolist() == [counts[t] for t in range(BASE, ROWS)]
    assert found.counts["after"] == {
        "documents": len(wanted), "tokens": sum(len(documents[d]) for d in wanted)
    }  # fmt: skip


def exact(scores, temperature, k):
    """Chances to be among k that are drawn in proportion to the scores, without putting back."""
    weights = [s ** (1 / temperature) for s in scores]
    chances = np.zeros(len(scores))
    for way in itertools.permutations(range(len(scores)), k):
        left, chance = sum(weights), 1.0
        for d in way:
            chance *= weights[d] / left
            left -= weights[d]
        chances[list(way)] += chance
    return chances


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_documents_are_drawn_as_often_as_the_formula_says(temperature):
    scores, k, draws = np.array([0.1, 0.2, 0.4, 0.8, 1.6, 0.4]), 3, 6000
    hashes = candidates([[i] for i in range(6)]).hashes
    times = np.zeros(6)
    for seed in range(draws):
        times[drawn(scores, hashes, temperature, seed)[:k]] += 1
    chances = exact(scores, temperature, k)
    spread = np.sqrt(draws * chances * (1 - chances))
    assert np.abs(times - draws * chances).max() < 4 * spread.max()
    assert (np.abs(times - draws * chances) < 4.5 * spread + 1).all()


def test_the_limits_of_temperature():
    rng = np.random.default_rng(3)
    scores, hashes = rng.random(500), rng.integers(2**64, size=500, dtype=np.uint64)
    best = np.argsort(-scores)
    assert (drawn(scores, hashes, 0, seed=1) == best).all()
    assert (drawn(scores, hashes, 1e-9, seed=1) == best).all()
    even = drawn(scores, hashes, math.inf, seed=1)
    assert (even == drawn(np.ones(500), hashes, 1.0, seed=1)).all()
    assert (even == drawn(scores, hashes, 1e12, seed=1)).all()
    assert (even != drawn(scores, hashes, math.inf, seed=2)).mean() > 0.9


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1.0, 1e300, math.inf])
def test_documents_without_new_tokens_come_last(temperature):
    hashes = np.arange(8, dtype=np.uint64)
    scores = np.array([0, 1e-300, 0, 1e300, 0, 1.0, 0, 1e-12])
    order = drawn(scores, hashes, temperature, seed=5)
    assert set(order[:4]) == {1, 3, 5, 7} and set(order[4:]) == {0, 2, 4, 6}


def test_neither_chunks_nor_order_nor_division_matter():
    documents, rows = random_documents()
    texts = [tuple(ids) for ids in documents]
    one = chosen(documents, rows=rows, share=0.3, min_count=4, seed=7)
    wanted = {texts[d] for d in one.documents[0]}
    for chunk in (1, 17, 1000):
        again = chosen(documents, rows=rows, share=0.3, min_count=4, seed=7, chunk=chunk)
        assert (again.documents[0] == one.documents[0]).all()
        assert again.figures() == one.figures()
    turned = chosen(documents[::-1], rows=rows, share=0.3, min_count=4, seed=7)
    assert {texts[::-1][d] for d in turned.documents[0]} == wanted
    parts = [candidates(documents[:150]), candidates(documents[150:])]
    two = select(parts, BASE, rows, share=0.3, min_count=4, seed=7, progress=False)
    assert (two.documents[0] == one.documents[0][one.documents[0] < 150]).all()
    assert (two.documents[1] + 150 == one.documents[0][one.documents[0] >= 150]).all()
    assert two.figures() == one.figures()
    other = chosen(documents, rows=rows, share=0.3, min_count=4, seed=8)
    assert other.documents[0].tolist() != one.documents[0].tolist()


def test_only_candidates_are_looked_at():
    documents, rows = random_documents(seed=2)
    index = np.flatnonzero(np.random.default_rng(0).random(len(documents)) < 0.6)
    some = select([candidates(documents, index)], BASE, rows, share=0.4, min_count=3, chunk=90,
                  progress=False)  # fmt: skip
    alone = chosen([documents[i] for i in index], rows=rows, share=0.4, min_count=3)
    assert (some.documents[0] == index[alone.documents[0]]).all()
    assert some.figures() == alone.figures()


def test_the_selection_has_more_new_tokens_and_more_of_the_rare():
    documents, rows = random_documents(count=2000, new=200)
    even = chosen(documents, rows=rows, share=0.25, temperature=math.inf)
    drawn_ = chosen(documents, rows=rows, share=0.25)
    best = chosen(documents, rows=rows, share=0.25, temperature=0)
    shares = [s.figures()["after"]["new_share"] for s in (even, drawn_, best)]
    assert shares[0] < 0.95 * shares[1] < 0.95 * 0.95 * shares[2]
    met = chosen(documents, rows=rows, share=0.25, min_count=5).figures()["target"]
    before = drawn_.figures() | {"min_count": 5}
    assert met["short"] == 0 and before["target"]["reached"] == 200  # nothing was asked of it
    assert met["reached"] + met["all_there_is"] == met["new"] == 200
    without = int((drawn_.after < np.minimum(5, drawn_.before)).sum())
    assert without > 10


def test_figures():
    documents = [[0, 0, 10, 11], [0, 10, 10], [0, 0], [12]]
    found = chosen(documents, share=0.7, temperature=0, min_count=2)
    told = found.figures()
    # 12 and 11 are once in the corpus and 10 three times; [12] comes first, then [.., 10, 11].
    assert found.documents[0].tolist() == [0, 3]
    assert told["before"] | {"occurrences": 0} == {
        "documents": 4, "tokens": 10, "new_tokens": 5, "new_share": 0.5, "occurrences": 0
    }  # fmt: skip
    assert told["after"]["new_share"] == 3 / 5 and told["after"]["documents"] == 2
    assert told["before"]["occurrences"]["100%"] == 3
    assert told["target"] == {
        "min_count": 2, "new": 6, "reached": 0, "all_there_is": 5, "short": 1, "absent": 3
    }  # fmt: skip


def test_bad_settings_are_refused():
    documents = [[0, 10], [1]]
    for wrong, said in (
        ({"share": 0.0}, "share=0 "),
        ({"share": 1.1}, "share=1.1"),
        ({"by": "bytes"}, "'tokens' or 'documents'"),
        ({"temperature": -1.0}, "temperature=-1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"min_count": -1}, "min_count=-1"),
        ({"share": 0.1}, "not one document"),
        ({"rows": BASE}, "no new token"),
    ):
        with pytest.raises(InputError, match=said):
            chosen(documents, **wrong)
    with pytest.raises(InputError, match="with an id of 10 or above"):
        chosen([[1, 2], [3]])
    with pytest.raises(InputError, match="made with another one"):
        chosen([[1, ROWS + 4]])
