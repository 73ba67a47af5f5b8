import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.data.order import Mixture, Order, OrderSource, permute
from maxlite.errors import InputError
from maxlite.mixture import phases


@pytest.mark.parametrize("n", [*range(1, 70), 255, 256, 257, 1000, 4097])
def test_permute_is_a_bijection(n):
    for key in (b"", b"a"):
        values = permute(np.arange(n), n, key)
        assert values.dtype == np.int64 and sorted(values.tolist()) == list(range(n))


def test_permute_literally():
    """These values are the order of every run that was ever started: they may never change."""
    assert permute(np.arange(10), 10, b"a").tolist() == [6, 8, 5, 9, 2, 1, 7, 0, 3, 4]
    assert permute(np.arange(10), 10, b"b").tolist() == [2, 8, 9, 5, 4, 1, 0, 3, 7, 6]
    large = permute(np.array([0, 1, 2, 10**12 - 1]), 10**12, b"seed/content/0")
    assert large.tolist() == [123995018219, 972202365474, 277577909062, 373041198989]


def test_permute_has_random_access():
    n = 12345
    whole = permute(np.arange(n), n, b"key")
    some = np.array([[5, 12344], [0, 5]])
    np.testing.assert_array_equal(permute(some, n, b"key"), whole[some])
    assert permute(np.array(7), n, b"key") == whole[7]


def test_permute_spreads():
    """All 24 orders of four are about equally likely, and neighbours end up anywhere."""
    orders: dict[tuple, int] = {}
    for key in range(2400):
        found = tuple(permute(np.arange(4), 4, str(key).encode()).tolist())
        orders[found] = orders.get(found, 0) + 1
    assert len(orders) == 24 and min(orders.values()) > 60 and max(orders.values()) < 150
    a, b = (permute(np.arange(20000), 20000, key) for key in (b"x", b"y"))
    for one, two in ((a, np.arange(20000)), (a, b), (a[1:], a[:-1])):
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


MIXTURES = [
    [1.0],
    [9.0, 1.0],
    [1.0, 9.0],
    [1.0, 0.001],
    [1e-6, 1.0, 1e-6],
    [0.5, 0.3, 0.15, 0.05],
    [1.0] * 20,
    [2.0**-i for i in range(12)],
]


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_every_prefix_has_its_shares(weights):
    n = np.arange(30001)
    counts = Mixture([(0, weights)]).counts(n).astype(np.int64)
    assert (counts.sum(axis=0) == n).all()
    steps = np.diff(counts, axis=1)
    assert ((steps == 0) | (steps == 1)).all()
    share = np.array(weights)[:, None] / sum(weights)
    assert np.abs(counts - share * n).max() < 2


@pytest.mark.parametrize("weights", MIXTURES, ids=str)
def test_every_source_is_drawn(weights):
    n = round(1.5 * sum(weights) / min(weights)) + 1
    assert (Mixture([(0, weights)]).counts(np.array(n)) > 0).all()


def test_draws_count_up_and_have_random_access():
    mixture = Mixture([(0, [9, 1, 0.5])])
    n = np.arange(5000)
    source, draw = mixture.draws(n)
    for k in range(3):
        assert draw[source == k].tolist() == list(range((source == k).sum()))
    chosen = np.array([4999, 17, 4000])
    for ours, all_ in zip(mixture.draws(chosen), (source, draw), strict=True):
        np.testing.assert_array_equal(ours, all_[chosen])
    # Far into a run the shares still hold exactly.
    far = np.array(3 * 10**9)
    assert np.abs(mixture.counts(far) / far - np.array([9, 1, 0.5]) / 10.5).max() < 1e-9


def source(name="a", **changes):
    settings = {"content": name * 4, "weight": 1.0, "windows": 10}
    return OrderSource(name, **{**settings, **changes})


def order(*sources, **changes):
    settings = {"seed": 0, "seq_len": 16, "batch_size": 8}
    return Order(sources, **{**settings, **changes})


def test_order_literally():
    """A whole order in small: see the note at the permutation."""
    made = order(source("a", weight=3.0, windows=7), source("b", windows=3), batch_size=4)
    seen = [list(zip(*(x.tolist() for x in made.batch(s)), strict=True)) for s in range(4)]
    assert seen == [
        [(0, 0, 6), (1, 0, 0), (0, 0, 3), (0, 0, 5)],
        [(0, 0, 0), (1, 0, 2), (0, 0, 4), (0, 0, 2)],
        [(0, 0, 1), (1, 0, 1), (0, 1, 3), (0, 1, 5)],
        [(0, 1, 4), (1, 1, 2), (0, 1, 6), (0, 1, 0)],
    ]
    assert made.fingerprint == "1df25c322f9022940927aa7da70bb352769fdecb6b6838d4e2e905eb83aa9803"


def test_each_epoch_reads_everything_once_in_another_order():
    made = order(source("a", weight=3.0, windows=7), source("b", windows=3), batch_size=4)
    rows = [np.concatenate(x) for x in zip(*(made.batch(s) for s in range(70)), strict=True)]
    for k, windows in ((0, 7), (1, 3)):
        epochs = []
        for e in range(20):
            chosen = (rows[0] == k) & (rows[1] == e)
            epochs.append(tuple(rows[2][chosen].tolist()))
            assert sorted(epochs[-1]) == list(range(windows))
        assert len(set(epochs)) > 4


def test_slices_of_a_batch_are_the_batch():
    made = order(source("a"), source("b", windows=333, weight=0.3))
    for step in (0, 5, 1000):
        whole = made.batch(step)
        for processes in (1, 2, 4):
            parts = [
                made.batch(step, np.arange(8).reshape(processes, -1)[p]) for p in range(processes)
            ]
            for i in range(3):
                np.testing.assert_array_equal(np.concatenate([p[i] for p in parts]), whole[i])


def test_two_sources_of_one_content_differ_by_seed_only():
    one = order(source("a", windows=1000))
    assert one.batch(3)[2].tolist() == order(source("a", windows=1000)).batch(3)[2].tolist()
    assert one.batch(3)[2].tolist() != order(source("a", windows=1000), seed=1).batch(3)[2].tolist()
    other = order(source("a", windows=1000, content="other"))
    assert one.batch(3)[2].tolist() != other.batch(3)[2].tolist()


def test_fingerprint_follows_what_batches_depend_on():
    same = order(source("a"))
    assert same.fingerprint == order(source("z", content="aaaa", epochs=3.0)).fingerprint
    others = [
        order(source("a"), seed=1),
        order(source("a"), seq_len=32),
        order(source("a"), batch_size=4),
        order(source("a", weight=2.0), source("b")),
        order(source("b"), source("a", weight=2.0)),
        order(source("b")),
    ]
    assert len({o.fingerprint for o in [same, *others]}) == 7
    assert same.describe()["sources"][0]["name"] == "a"


def test_check_length():
    capped = order(source("big", weight=9.0, windows=900), source("few", windows=10, epochs=2.0))
    capped.check_length(200)
    with pytest.raises(
        InputError, match=r"'few' would be read 2\.4 times in 30 steps, but .* allow 2.* 25 steps;"
    ):
        capped.check_length(240)
    order(source("a", epochs=1.0)).check_length(10)
    with pytest.raises(InputError, match=r"'a' would be read 1\.1 times"):
        order(source("a", epochs=1.0)).check_length(11)
    with pytest.raises(InputError, match=r"2\*\*32"):
        order(source("a")).check_length(2**32)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_weights_are_numbers_of_at_least_zero(weight):
    for wrong in ({"weight": weight}, {"later": ((5, weight),)}):
        with pytest.raises(InputError, match="weight of source 'b' is"):
            order(source("a"), source("b", **wrong))


# --- weights that change -------------------------------------------------------------------------


def changing():
    """From step 6 on a is no longer read, and c begins."""
    return (
        source("a", weight=5.0, windows=11, later=((6, 0.0),)),
        source("b", weight=3.0, windows=90),
        source("c", weight=0.0, later=((6, 1.0), (20, 3.0))),
    )


def test_a_phase_begins_at_its_step():
    made, first = order(*changing()), order(*changing()[:2])
    steady = order(source("a", weight=5.0, windows=11), changing()[1])
    assert [step for step, _ in made.phases] == [0, 6, 20] and len(first.phases) == 2
    shares = []
    for step in range(40):
        batch = made.batch(step)
        shares.append(np.bincount(batch[0], minlength=3) / 8)
        if step < 6:
            assert [x.tolist() for x in batch] == [x.tolist() for x in steady.batch(step)]
    np.testing.assert_array_equal(shares[:6], np.tile([5 / 8, 3 / 8, 0], (6, 1)))
    np.testing.assert_array_equal(shares[6:20], np.tile([0, 6 / 8, 2 / 8], (14, 1)))
    np.testing.assert_array_equal(shares[20:], np.tile([0, 4 / 8, 4 / 8], (20, 1)))


def test_a_source_goes_on_over_phases_where_it_was():
    made = order(*changing())
    rows = [np.concatenate(x) for x in zip(*(made.batch(s) for s in range(60)), strict=True)]
    for k, s in enumerate(made.sources):
        epochs, windows = (x[rows[0] == k] for x in rows[1:])
        assert (np.diff(epochs) >= 0).all()
        for e in range(epochs.max()):
            assert sorted(windows[epochs == e].tolist()) == list(range(s.windows))


def test_a_change_to_the_same_weights_is_none():
    same = (source("a", later=((7, 1.0),)), source("b", weight=0.3, later=((4, 0.3),)))
    plain = order(source("a"), source("b", weight=0.3))
    assert len(order(*same).phases) == 1
    for step in range(20):
        for ours, theirs in zip(order(*same).batch(step), plain.batch(step), strict=True):
            np.testing.assert_array_equal(ours, theirs)


WEIGHTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e3)), min_size=4, max_size=4).filter(
    any
)


@given(st.lists(st.tuples(st.integers(1, 400), WEIGHTS), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_shares_hold_within_every_phase(lengths_and_weights):
    starts = np.cumsum([0, *(length for length, _ in lengths_and_weights)])
    weights = [w for _, w in lengths_and_weights]
    mixture = Mixture([(int(s), w) for s, w in zip(starts, weights, strict=False)])
    counts = mixture.counts(np.arange(starts[-1] + 1)).astype(np.int64)
    assert (np.diff(counts, axis=1).sum(axis=0) == 1).all() and (np.diff(counts) >= 0).all()
    for begin, end, w in zip(starts, starts[1:], weights, strict=False):
        n = np.arange(end - begin + 1)
        share = np.array(w)[:, None] / sum(w)
        within = counts[:, begin : end + 1] - counts[:, begin : begin + 1]
        assert np.abs(within - share * n).max() < 2
        assert not within[np.array(w) == 0].any()
    source_, draw = mixture.draws(np.arange(starts[-1]))
    for k in range(4):
        assert draw[source_ == k].tolist() == list(range(counts[k, -1]))


def test_what_has_been_read():
    made = order(*changing(), seq_len=16)
    read = made.read(12)
    assert [r.asked for r in read.values()] == pytest.approx([5 / 16, 9 / 16, 1 / 8])
    assert [r.share for r in read.values()] == pytest.approx([30 / 96, 54 / 96, 12 / 96])
    assert [r.epochs for r in read.values()] == pytest.approx([30 / 11, 54 / 90, 12 / 10])
    assert made.read(3)["c"] == (0, 0, 0)
    # Ten rows with room for 160 tokens that hold 80 are half as many tokens.
    half = order(source("a"), source("b", inputs=80)).read(5)
    assert [r.share for r in half.values()] == pytest.approx([2 / 3, 1 / 3])
    assert [r.asked for r in half.values()] == [0.5, 0.5]


def test_phases_and_the_fingerprint():
    changes = ((), ((5, 2.0),), ((6, 2.0),), ((5, 3.0),))
    made = [order(source("a", later=later), source("b")) for later in changes]
    assert len({o.fingerprint for o in made}) == 4


def test_a_source_may_run_dry_in_a_later_phase():
    made = order(source("a", weight=1.0, windows=40, epochs=1.0, later=((6, 3.0),)), source("b"))
    made.check_length(8 * 8)
    with pytest.raises(InputError, match=r"1\.05 times in 9 steps.* allow 1.* 8 steps"):
        made.check_length(9 * 8)


def test_a_step_without_any_weight_is_named():
    with pytest.raises(InputError, match="weight 0 from step 0 on"):
        order(source("a", weight=0.0), source("b", weight=0.0, later=((3, 1.0),)))
    with pytest.raises(InputError, match="weight 0 from step 7 on"):
        order(source("a", later=((5, 0.0),)), source("b", later=((7, 0.0), (9, 1.0))))
    assert phases([source("a", later=((5, 0.0),)), source("b")])[1] == (5, (0.0, 1.0))


def test_sources_are_needed():
    with pytest.raises(InputError, match="no training data"):
        order()
    with pytest.raises(InputError, match="'a' holds too little text"):
        order(source("a", windows=0))
