import subprocess
import sys

import numpy as np
import pytest

from maxlite.data.corpus import Corpus
from maxlite.data.loader import batches
from maxlite.data.order import Order, OrderSource
from maxlite.data.packing import KEYS, training_row, windows
from maxlite.data.view import View

SEQ_LEN, BATCH, STEPS = 8, 4, 40


@pytest.fixture
def corpus(make_cache, random_documents):
    views = [
        View(make_cache(random_documents, "a"), 1, 2),
        View(make_cache([[7, 8, 9]] * 5, "b"), 1, 2),
    ]
    sources = [
        OrderSource(name, view.content, weight, windows(view, SEQ_LEN))
        for name, view, weight in zip("ab", views, (9.0, 1.0), strict=True)
    ]
    return Corpus(Order(sources, 0, SEQ_LEN, BATCH), views, {})


def read(corpus, start=0, rows=range(BATCH), **options):
    return list(batches(corpus, start, STEPS, list(rows), **options))


def test_batches_are_the_rows_of_the_order(corpus):
    found = read(corpus)
    assert len(found) == STEPS
    for step, batch in enumerate(found):
        assert {k: (a.shape, a.dtype) for k, a in batch.items()} == {
            key: ((BATCH, SEQ_LEN), np.dtype(dtype)) for key, dtype in KEYS.items()
        }
        source, _, window = corpus.order.batch(step)
        for r in range(BATCH):
            row = training_row(corpus.views[source[r]], window[r], SEQ_LEN)
            for key in KEYS:
                np.testing.assert_array_equal(batch[key][r], row[key])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_the_same_batches(processes, corpus):
    whole = read(corpus)
    parts = [read(corpus, rows=range(p, BATCH, processes)) for p in range(processes)]
    for step in range(STEPS):
        for key in KEYS:
            for p in range(processes):
                np.testing.assert_array_equal(parts[p][step][key], whole[step][key][p::processes])


@pytest.mark.parametrize("start", [1, 17, STEPS - 1, STEPS, STEPS + 3])
def test_going_on_at_a_step(start, corpus):
    whole, rest = read(corpus), read(corpus, start, threads=1, prefetch=1)
    assert len(rest) == max(0, STEPS - start)
    for a, b in zip(whole[start:], rest, strict=True):
        for key in KEYS:
            np.testing.assert_array_equal(a[key], b[key])


PROGRAM = """
import sys
import numpy as np
from maxlite.data import loader
class Slow(loader.Steps):
    def __getitem__(self, step):
        if step == 6:
            raise ValueError("an unreadable row")
        return {"tokens": np.full(3, step)}
loader.Steps = Slow
stream = loader.batches(None, 2, 1000, [0])
print(next(stream)["tokens"][0], flush=True)
if sys.argv[1] == "fail":
    list(stream)
raise SystemExit(5)
"""


@pytest.mark.parametrize(("how", "status"), [("leave", 5), ("fail", 1)])
def test_a_program_can_end_while_reading(how, status):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("2\n", status)
    assert ("an unreadable row" in done.stderr) == (how == "fail")
