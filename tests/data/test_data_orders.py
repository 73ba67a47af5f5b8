"""Order files: what is written is read, and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maxlite.data import orders
from maxlite.data.kept import kept_numbers
from maxlite.data.orders import Listed, OrderFile, find_order, read_order, write_order
from maxlite.errors import InputError
from maxlite.mixture import Source


@pytest.fixture
def order():
    return OrderFile(
        sources=(
            Listed(Source("ko/*.txt", 5.86, "한국어", epochs=2.0, later=((10, 0.0),)), "k" * 40),
            Listed(Source("en.jsonl", 3.0, "en", "body"), "e" * 40, np.array([1, 5, 6, 90])),
        ),
        tokenizer="abc",
        bos=1,
        eos=None,
        seed=7,
        seq_len=64,
        held_out=0.01,
        txt="file",
        base="def",
        notes={"temperature": 0.5, "of": ["a", "b"]},
    )


def assert_equal(a: OrderFile, b: OrderFile) -> None:
    assert replace(a, sources=(), kept=None) == replace(b, sources=(), kept=None)
    assert (a.kept is None) == (b.kept is None)
    if a.kept and b.kept:
        assert (a.kept.seed, a.kept.batch_size) == (b.kept.seed, b.kept.batch_size)
        np.testing.assert_array_equal(a.kept.numbers, b.kept.numbers)
        assert a.kept.numbers.dtype == b.kept.numbers.dtype == np.int64
    for ours, theirs in zip(a.sources, b.sources, strict=True):
        assert (ours.source, ours.content) == (theirs.source, theirs.content)
        np.testing.assert_array_equal(ours.documents, theirs.documents)
        assert getattr(ours.documents, "dtype", None) == getattr(theirs.documents, "dtype", None)


def test_what_is_written_is_read(order, tmp_path):
    write_order(tmp_path / "deep" / "my.order", order)
    found = read_order(tmp_path / "deep" / "my.order")
    assert_equal(found, order)
    assert found.fingerprint == order.fingerprint
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["my.order"]
    names = {p.name for p in (tmp_path / "deep" / "my.order").iterdir()}
    assert names == {"order.json", "documents-1.npy"}
    text = (tmp_path / "deep" / "my.order" / "order.json").read_text("utf-8")
    assert "한국어" in text and json.loads(text)["fingerprint"] == order.fingerprint


def test_a_fingerprint_literally(order):
    """Orders name each other by it: it changes with the version of the order alone."""
    assert order.fingerprint[:16] == "67bb23353c5007ae"


def test_a_fingerprint_follows_the_sequence_alone(order):
    ko, en = order.sources
    renamed = replace(ko, source=replace(ko.source, glob="x.txt", name="x", epochs=0.0))
    same = replace(order, sources=(renamed, en), base="", notes={}, txt="line")
    assert same.fingerprint == order.fingerprint
    others = [
        replace(order, seed=8),
        replace(order, seq_len=65),
        replace(order, tokenizer="abd"),
        replace(order, bos=2),
        replace(order, held_out=0.02),
        replace(order, sources=(en, ko)),
        replace(order, sources=(replace(ko, content="l" * 40), en)),
        replace(order, sources=(replace(ko, source=replace(ko.source, weight=5.87)), en)),
        replace(order, sources=(replace(ko, source=replace(ko.source, later=())), en)),
        replace(order, sources=(ko, replace(en, documents=None))),
        replace(order, sources=(ko, replace(en, documents=np.array([1, 5, 6, 91])))),
    ]
    assert len({o.fingerprint for o in [order, *others]}) == 1 + len(others)


# --- kept sequences ------------------------------------------------------------------------------


@pytest.fixture
def round_two(order):
    return order.keeping(np.array([90, 3, 7]), 11, 32, {"fraction": 0.5})


def test_kept_sequences_are_written_and_read(order, round_two, tmp_path):
    write_order(tmp_path / "two", round_two)
    assert_equal(read_order(tmp_path / "two"), round_two)
    assert round_two.kept.numbers.tolist() == [3, 7, 90]
    assert (round_two.base, round_two.seed, round_two.kept.seed) == (order.fingerprint, 11, 7)
    names = {p.name for p in (tmp_path / "two").iterdir()}
    assert names == {"order.json", "documents-1.npy", "kept.npy"}
    write_order(tmp_path / "one", order)
    assert "kept" not in json.loads((tmp_path / "one" / "order.json").read_text())


def test_a_fingerprint_follows_what_is_kept(order, round_two):
    kept = round_two.kept
    others = [
        replace(order, seed=11),
        replace(round_two, seed=12),
        replace(round_two, kept=replace(kept, numbers=np.array([3, 7, 91]))),
        replace(round_two, kept=replace(kept, seed=8)),
        replace(round_two, kept=replace(kept, batch_size=16)),
        replace(round_two, kept=None),
    ]
    assert others[0].fingerprint == others[-1].fingerprint
    assert len({o.fingerprint for o in [order, round_two, *others]}) == 7
    assert round_two.fingerprint[:16] == "2e098c50f37045a6"


def test_a_batch_size_matters_where_weights_change(order):
    ko, en = order.sources
    steady = replace(order, sources=(replace(ko, source=replace(ko.source, later=())), en))
    made = [o.keeping(np.arange(5), 1, size, {}) for o in (order, steady) for size in (8, 16)]
    assert [m.kept.batch_size for m in made] == [8, 16, 0, 0]
    assert len({m.fingerprint for m in made}) == 3


def test_rounds_do_not_pile_up(round_two):
    """What a third round keeps are numbers of the first, found through the second's order."""
    three = round_two.keeping(np.array([0, 2]), 12, 99, {})
    from_two = kept_numbers(round_two.kept.numbers, 11, np.array([0, 1, 2]))
    assert sorted(from_two.tolist()) == [3, 7, 90]
    assert three.kept.numbers.tolist() == sorted(from_two[[0, 2]].tolist())
    assert (three.kept.seed, three.kept.batch_size, three.seed) == (7, 32, 12)
    assert three.base == round_two.fingerprint
    with pytest.raises(InputError, match="sequence 3 is read in a second pass through the 3"):
        round_two.keeping(np.array([0, 3]), 12, 99, {})
    with pytest.raises(InputError, match="no sequence is kept"):
        round_two.keeping(np.zeros(0, np.int64), 12, 99, {})


def of_kept(**changes):
    def edit(path):
        said = json.loads(path.read_text())
        said["kept"] |= changes
        path.write_text(json.dumps(said))

    return edit


def kept_as(values):
    return lambda path: np.save(path.parent / "kept.npy", np.array(values))


DAMAGED_KEPT = {
    "not ascending": (kept_as([7, 3, 90]), "no ascending"),
    "one twice": (kept_as([3, 3, 90]), "no ascending"),
    "none": (kept_as(np.zeros(0, np.int64)), "no ascending"),
    "negative": (kept_as([-3, 7, 90]), "no sequence has"),
    "too large": (kept_as([3, 7, 2**32]), "no sequence has"),
    "floats": (kept_as([3.0, 7.0]), "not a list of int64"),
    "others": (kept_as([3, 7, 91]), "does not have its fingerprint"),
    "gone": (lambda path: (path.parent / "kept.npy").unlink(), "No such file"),
    "elsewhere": (of_kept(numbers="../kept.npy"), "not a file beside"),
    "a text as a seed": (of_kept(seed="7"), "keeps sequences of"),
    "a key more": (of_kept(colour="red"), "colour"),
    "as without": (lambda path: edited(kept=None)(path), "format 2, version 1"),
}


@pytest.mark.parametrize("damage", DAMAGED_KEPT)
def test_damaged_kept_sequences_are_refused(damage, round_two, tmp_path):
    write_order(tmp_path / "my.order", round_two)
    change, said = DAMAGED_KEPT[damage]
    change(tmp_path / "my.order" / "order.json")
    with pytest.raises(InputError) as caught:
        read_order(tmp_path / "my.order")
    assert "my.order" in str(caught.value) and said in str(caught.value), caught.value


# --- writing -------------------------------------------------------------------------------------


def test_nothing_is_replaced_unasked(order, tmp_path):
    path = tmp_path / "my.order"
    write_order(path, order)
    before = read_order(path)
    other = replace(order, sources=(replace(order.sources[1], documents=None),))
    with pytest.raises(InputError, match=r"my\.order exists; choose another"):
        write_order(path, other)
    assert_equal(read_order(path), before)
    write_order(path, other, overwrite=True)
    assert_equal(read_order(path), other)
    assert {p.name for p in path.iterdir()} == {"order.json"}
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="mine exists and is no order"):
        write_order(tmp_path / "mine", order, overwrite=True)
    assert {p.name for p in tmp_path.iterdir()} == {"my.order", "mine"}


def test_a_failed_write_leaves_nothing(order, tmp_path, monkeypatch):
    write_order(tmp_path / "old", order)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orders.outputs, "write_text", full)
    for name, settings in (("new", {}), ("old", {"overwrite": True})):
        with pytest.raises(InputError, match="there is no room to write"):
            write_order(tmp_path / name, replace(order, seed=1), **settings)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert_equal(read_order(tmp_path / "old"), order)


def test_a_run_is_taken_for_its_order(order, tmp_path):
    write_order(tmp_path / "run" / "order", order)
    assert find_order(tmp_path / "run") == tmp_path / "run" / "order"
    assert_equal(read_order(tmp_path / "run"), order)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"run in .*old has no order"):
        read_order(tmp_path / "old")
    for name in ("nonesuch", "."):
        with pytest.raises(InputError, match=r"no order and no run: there is no order\.json"):
            read_order(tmp_path / name)


# --- damage --------------------------------------------------------------------------------------


def edited(**changes):
    return lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def of_source(**changes):
    def edit(path):
        said = json.loads(path.read_text())
        said["sources"][1] |= changes
        path.write_text(json.dumps(said))

    return edit


def documents(change):
    return lambda path: change(path.parent / "documents-1.npy")


def saved(values):
    return documents(lambda file: np.save(file, np.array(values), allow_pickle=True))


DAMAGED = {
    "no json": (lambda path: path.write_text('{"format": 1,'), "Expecting"),
    "a list": (lambda path: path.write_text("[]"), "damaged"),
    "newer": (edited(format=2), "format 2, version 1"),
    "another order": (edited(version=2), "format 1, version 2"),
    "a key more": (edited(sequences="x.npy"), "sequences"),
    "another seed": (edited(seed=8), "does not have its fingerprint"),
    "a wrong type": (edited(seq_len="64"), "seq_len"),
    "another weight": (of_source(weight=4.0), "does not have its fingerprint"),
    "a bad weight": (of_source(weight=-4.0), "at least 0"),
    "a name twice": (of_source(name="한국어"), "have one name"),
    "no name": (of_source(name=""), "a name that is empty"),
    "a name like a path": (of_source(name="a/b"), "has a '/'"),
    "notes of another type": (edited(notes=["x"]), "notes"),
    "a field more": (of_source(colour="red"), "colour"),
    "no such file": (of_source(documents="other.npy"), "No such file"),
    "elsewhere": (of_source(documents="../x.npy"), "not a file beside"),
    "documents gone": (documents(lambda file: file.unlink()), "No such file"),
    "documents cut": (documents(lambda file: file.write_bytes(file.read_bytes()[:-8])), "mmap"),
    "documents empty": (documents(lambda file: file.write_bytes(b"")), "EOF"),
    "other documents": (saved([1, 5, 6, 91]), "does not have its fingerprint"),
    "another type": (saved([1.0, 5.0]), "not a list of int64"),
    "code": (saved([{}]), "damaged"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_order_is_refused_in_one_sentence(damage, order, tmp_path):
    write_order(tmp_path / "my.order", order)
    change, said = DAMAGED[damage]
    change(tmp_path / "my.order" / "order.json")
    with pytest.raises(InputError) as caught:
        read_order(tmp_path / "my.order")
    text = str(caught.value)
    assert "my.order" in text and said in text and "\n" not in text, text
