import subprocess
import sys

import numpy as np
import pytest

from maxlite.data.corpus import Corpus
from maxlite.data.loader import batches
from maxlite.data.order import Order, OrderSource
from maxlite.data.orders import OrderFile
from maxlite.data.packing import KEYS, training_row, windows
from maxlite.data.view import View

SEQ_LEN, BATCH, STEPS = 8, 4, 40
NO_FILE = OrderFile((), "", 1, 2, 0, SEQ_LEN)
LATER = ((), ((15, 9.0), (31, 0.0)))  # of the second source


@pytest.fixture
def corpus(make_cache, random_documents):
    views = [
        View(make_cache(random_documents, "a"), 1, 2),
        View(make_cache([[7, 8, 9]] * 5, "b"), 1, 2),
    ]
    sources = [
        OrderSource(name, view.content, weight, windows(view, SEQ_LEN), later=later)
        for name, view, weight, later in zip("ab", views, (9.0, 1.0), LATER, strict=True)
    ]
    return Corpus(Order(sources, 0, SEQ_LEN, BATCH), views, {}, NO_FILE)


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


def test_stopped_and_gone_on_with_other_processes(corpus):
    """Three lives of a run, on 2, 4 and 1 processes; the first ends just before weights change."""
    whole, step = read(corpus), 0
    for processes, stop in ((2, 14), (4, 33), (1, STEPS)):
        rows = np.arange(BATCH).reshape(processes, -1)
        lives = [read(corpus, step, rows[p])[: stop - step] for p in range(processes)]
        for parts in zip(*lives, strict=True):
            for key in KEYS:
                ours = np.concatenate([part[key] for part in parts])
                np.testing.assert_array_equal(ours, whole[step][key])
            step += 1
    assert step == STEPS


def test_published_shares_in_packed_sequences(make_cache):
    """KoSOLAR's mixture, whose parts sum up to 100.01: tokens counted in 10,000 packed rows."""
    rng = np.random.default_rng(1)
    asked, views = np.array([5.86, 10.69, 83.46]), []
    for i, (documents, longest) in enumerate(((300, 90), (900, 40), (700, 300))):
        lengths = rng.integers(1, longest, documents)
        views.append(View(make_cache([[i] * n for n in lengths], str(i)), None, None))
    sources = [
        OrderSource(str(i), v.content, w, windows(v, 32), inputs=v.length - 1)
        for i, (v, w) in enumerate(zip(views, asked.tolist(), strict=True))
    ]
    order = Order(sources, 0, 32, 100)
    counts = np.zeros(3, np.int64)  # of each source, by the one id that its documents have
    for batch in batches(Corpus(order, views, {}, NO_FILE), 0, 100, np.arange(100)):
        counts += np.bincount(batch["tokens"][batch["segments"] > 0], minlength=3)
    assert counts.sum() > 300_000
    assert np.abs(counts / counts.sum() - asked / asked.sum()).max() < 0.005
    told = [read.share for read in order.read(100).values()]
    np.testing.assert_allclose(told, counts / counts.sum(), atol=1e-4)


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
