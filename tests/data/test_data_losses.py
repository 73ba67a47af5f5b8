"""Losses and the work on them: exact means, parts that cover all, nothing half there."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.data.losses import Losses, Scored, read_losses
from maxlite.data.losses_work import Work
from maxlite.errors import InputError


def of(sequences, **changes):
    return Scored(
        **{"order": "o", "model": "m", "dtype": "float32", "steps": sequences} | changes,
        batch_size=1,
    )


def filled(out, sequences=200):
    work = Work(out, of(sequences), "somewhere")
    work.begin()
    values = np.arange(2 * sequences, dtype=np.float32).reshape(2, -1)
    for chunk in work.todo().tolist():
        work.write(chunk, values[:, slice(*work.span(chunk))])
    return work, values


def test_a_mean_is_that_of_the_tokens():
    nll, weights = (np.array(x, np.float32) for x in ([2, 9, 0, 1e9], [1, 3, 0, 4]))
    losses = Losses(of(4), "", nll, weights)
    assert losses.means().tolist() == [2, 3, 0, 2.5e8]
    assert losses.means(2).tolist() == [11 / 4, 2.5e8] and losses.means(2).dtype == np.float64
    with pytest.raises(InputError, match="4 sequences do not divide into batches of 3"):
        losses.means(3)


@given(st.integers(1, 1_000_000), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_chunks_and_parts_cover_each_sequence_once(tmp_path_factory, sequences, parts):
    work = Work(tmp_path_factory.getbasetemp() / "none", of(sequences), "")
    spans = [work.span(chunk) for chunk in range(work.count)]
    assert spans[0][0] == 0 and spans[-1][1] == sequences and 1 <= work.count <= 1024
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    shared = [work.todo(part, parts).tolist() for part in range(parts)]
    assert [*chain(*shared)] == list(range(work.count))
    assert max(map(len, shared)) - min(map(len, shared)) <= 1


def test_nothing_is_there_before_all_is(tmp_path):
    out = tmp_path / "scores"
    work, values = filled(out)
    assert work.count == 4 and not out.exists()
    (work.folder / "chunk-00002.npy").unlink()
    assert not work.join() and work.missing() == "64 of 200 sequences are missing (128-191)"
    with pytest.raises(
        InputError, match=r"not complete, what there is of them is in .*scores\.work"
    ):
        read_losses(out)
    work.write(2, values[:, 128:192])
    assert work.join() and work.is_made() and work.join()
    assert [p.name for p in tmp_path.iterdir()] == ["scores"]
    found = read_losses(out)
    assert found.of == work.of and found.model == "somewhere"
    np.testing.assert_array_equal([found.nll, found.weights], values)


def test_what_is_there_is_replaced_only_if_asked(tmp_path):
    filled(tmp_path / "scores")[0].join()
    other = Work(tmp_path / "scores", of(200, model="n"), "elsewhere")
    assert not other.is_made()
    other.begin()
    for chunk in other.todo().tolist():
        start, stop = other.span(chunk)
        other.write(chunk, np.zeros((2, stop - start)))
    with pytest.raises(InputError, match="scores exists"):
        other.join()
    assert read_losses(tmp_path / "scores").of.model == "m"
    assert other.join(overwrite=True) and read_losses(tmp_path / "scores").of.model == "n"


def test_other_work_is_kept_apart(tmp_path):
    filled(tmp_path / "scores")
    other = Work(tmp_path / "scores", of(200, dtype="bfloat16", order="p"), "")
    with pytest.raises(
        InputError, match=r"begun with another order, dtype; remove it.*scores\.work"
    ):
        other.begin()
    other.begin(anew=True)
    assert len(other.todo()) == 4
