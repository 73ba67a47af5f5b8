import json
import shutil

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.making import Making, make, stamps
from maxlite.data.packing import KEYS, training_row, windows
from maxlite.data.tokens import Distant, Tokens, names_cache, open_cache
from maxlite.data.view import View, split
from maxlite.errors import InputError
from maxlite.storage import Url
from maxlite.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_text, tokenizer):
    """A cache of 800 documents in about twenty shards."""
    out = tmp_path_factory.mktemp("tokens") / "made"
    files = [tiny_text / "en.txt", tiny_text / "xx.txt"]
    work = out.with_name("work")
    assert make(Making(files, stamps(files), tokenizer, work, shard_bytes=3000), out)
    return out


class Counting(MemoryFileSystem):
    """Counts what is asked for."""

    protocol = "counting"
    asked: list[tuple[int, int]] = []  # noqa: RUF012 - fsspec makes and keeps the instances

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("counting:/"))

    def cat_file(self, path, start=None, end=None, **kwargs):
        if start is not None:
            self.asked.append((start, end))
        return super().cat_file(path, start, end, **kwargs)


@pytest.fixture
def uploaded(folder):
    fsspec.register_implementation("counting", Counting, clobber=True)
    system = fsspec.filesystem("counting")
    system.store.clear()
    for file in folder.iterdir():
        system.pipe(f"/bucket/made/{file.name}", file.read_bytes())
    Counting.asked.clear()
    yield Url("counting://bucket/made")
    system.store.clear()


# --- shards ----------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    st.data(),
    st.sampled_from([0, 3, 10**6]),
)
@settings(max_examples=150, deadline=None)
def test_shards_are_one_array(sizes, data, gap):
    """In memory or far away, however they are asked for."""
    whole = np.arange(sum(sizes), dtype=np.uint16) * 3
    arrays = np.split(whole, np.cumsum(sizes)[:-1])
    system = fsspec.filesystem("memory")
    far = []
    for i, array in enumerate(arrays):
        system.pipe(f"/shards/{i}", array.tobytes())
        far.append(Distant(Url(f"memory://shards/{i}"), len(array), array.dtype))
    places = st.integers(0, len(whole) - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maxlite.data.tokens._GAP", gap)
        patch.setattr("maxlite.data.tokens._AHEAD", gap)
        for tokens in (Tokens(arrays), Tokens(far)):
            assert (len(tokens), tokens.nbytes) == (len(whole), whole.nbytes)
            for _ in range(4):
                start, stop = data.draw(st.tuples(places, places))
                found = tokens[start:stop]
                np.testing.assert_array_equal(found, whole[start:stop])
                assert found.dtype == np.uint16
            at = np.array(data.draw(st.lists(places, max_size=12)), np.int64)
            np.testing.assert_array_equal(tokens[at], whole[at])
            np.testing.assert_array_equal(np.asarray(tokens), whole)


@pytest.mark.parametrize("held_out", [0.0, 0.3])
@pytest.mark.parametrize("far", [False, True])
def test_rows_do_not_know_of_shards(
    far, held_out, folder, uploaded, tiny_text, tokenizer, tmp_path
):
    """Rows that span shards are those of the text tokenised into one."""
    text = Source(f"{tiny_text}/*.txt")
    one = tokenize(text, tokenizer, Data(), False)
    many = open_cache(uploaded if far else folder)
    assert one.shards == 1 and many.shards > 15
    assert one.content == many.content and one.rows == many.rows
    ours, theirs = (split(cache, 1, 2, held_out)[0] for cache in (one, many))
    assert ours.content == theirs.content
    for w in range(windows(ours, 300)):
        a, b = training_row(ours, w, 300), training_row(theirs, w, 300)
        for key in KEYS:
            np.testing.assert_array_equal(a[key], b[key])
    for a, b in zip(ours.documents(), theirs.documents(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_of_what_is_far_away_only_what_is_needed_is_fetched(uploaded, monkeypatch):
    monkeypatch.setattr("maxlite.data.tokens._AHEAD", 200)
    view = View(open_cache(uploaded), 1, 2)
    assert not Counting.asked  # opening reads no tokens
    rows = np.random.default_rng(0).permutation(windows(view, 64))[:20]
    for w in rows.tolist():
        training_row(view, w, 64)
    assert len(rows) <= len(Counting.asked) <= len(rows) + 5  # a few span two shards
    assert sum(stop - start for start, stop in Counting.asked) <= 2 * 65 * len(rows)
    Counting.asked.clear()
    assert len(list(view.documents())) == 800
    read = sum(stop - start for start, stop in Counting.asked)
    tokens = 2 * len(view.cache.tokens)
    assert tokens <= read < 1.5 * tokens and len(Counting.asked) < 400


# --- folders ---------------------------------------------------------------------------------


def test_what_names_a_cache(folder, uploaded, tmp_path, monkeypatch):
    assert names_cache(str(folder)) and names_cache(f"{folder}/")
    assert names_cache(str(uploaded)) and names_cache(f"{uploaded}/")
    (tmp_path / "text").mkdir()
    for name in (tmp_path / "text", tmp_path / "*", f"{uploaded.parent}/*", f"{uploaded}/x.txt"):
        assert not names_cache(str(name))
    monkeypatch.setenv("HOME", str(folder.parent))
    assert names_cache(f"~/{folder.name}")


def test_a_moved_folder_is_the_same(folder, uploaded, tmp_path):
    moved = open_cache(shutil.copytree(folder, tmp_path / "moved"))
    before, far = open_cache(folder), open_cache(uploaded)
    for other in (moved, far):
        assert other.content == before.content and other.tokenizer == before.tokenizer
        np.testing.assert_array_equal(other.tokens[:], before.tokens[:])
        for name in ("offsets", "bytes", "chars", "hashes"):
            np.testing.assert_array_equal(getattr(other, name), getattr(before, name))


def test_another_tokenizer_is_named(folder, tiny_tokenizer, tokenizer):
    cache = open_cache(folder)
    cache.check(tokenizer)
    other = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    with pytest.raises(InputError) as caught:
        tokenize(Source(str(folder)), other, Data(), False)
    for tokenizer_ in (tokenizer, other):
        assert str(tokenizer_.path) in str(caught.value)
        assert tokenizer_.fingerprint[:12] in str(caught.value)


def test_damaged_folders_are_named(folder, uploaded, tmp_path):
    def refused(damage, message):
        shutil.rmtree(tmp_path / "c", ignore_errors=True)
        damage(shutil.copytree(folder, tmp_path / "c"))
        with pytest.raises(InputError, match=message):
            open_cache(tmp_path / "c")

    def cut(name):
        return lambda c: (c / name).write_bytes((c / name).read_bytes()[:-1])

    def edit(**changes):
        def damage(c):
            meta = json.loads((c / "meta.json").read_text()) | changes
            (c / "meta.json").write_text(json.dumps(meta))

        return damage

    refused(lambda c: (c / "meta.json").unlink(), "c is not a whole token cache: it has no meta")
    refused(cut("meta.json"), "meta.json is damaged")
    refused(edit(shards=None), "meta.json is damaged")
    refused(edit(format=1), "is a token cache of format 1; make it anew with tools.tokenize_corpus")
    refused(cut("tokens-00003.bin"), r"tokens-00003\.bin has \d+ bytes, not \d+; copy it anew")
    refused(cut("hashes.bin"), r"hashes\.bin has 6399 bytes, not 6400")
    refused(lambda c: (c / "tokens-00003.bin").unlink(), r"tokens-00003\.bin is missing; copy it")
    with pytest.raises(InputError, match="is not a whole token cache: it has no meta"):
        open_cache(tmp_path / "nowhere")

    system = fsspec.filesystem("counting")
    cache = open_cache(uploaded)
    system.pipe("/bucket/made/tokens-00000.bin", b"ab")
    with pytest.raises(InputError, match=r"tokens-00000\.bin has 2 bytes, not \d+; copy it anew"):
        open_cache(uploaded)
    with pytest.raises(InputError, match=r"tokens-00000\.bin is shorter than it was"):
        cache.tokens[:10]
    system.rm("/bucket/made/tokens-00000.bin")
    with pytest.raises(InputError, match=r"tokens-00000\.bin cannot be read: there is no such"):
        cache.tokens[:10]
