import gzip
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import zstandard
from commands import snapshot
from hypothesis import example, given, settings
from hypothesis import strategies as st

from maxlite.data.making import Making, make, stamps
from maxlite.data.shards import Shard
from maxlite.data.tokens import open_cache
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer

line = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


@pytest.fixture
def files(tiny_text):
    return [tiny_text / "en.txt", tiny_text / "xx.txt"]


@pytest.fixture
def in_processes(monkeypatch):
    """However little there is to do."""
    monkeypatch.setattr("maxlite.tokenizer.workers._PROCESS_BYTES", 1)


def making(files, tokenizer, folder, **settings):
    return Making(files, stamps(files), tokenizer, folder, **{"shard_bytes": 9000} | settings)


def test_shards_follow_from_sizes_alone(files, tokenizer, tmp_path):
    made = making(files, tokenizer, tmp_path / "w")
    assert [s.number for s in made.shards] == list(range(len(made.shards)))
    assert all(s.size <= 9000 for s in made.shards) and made.size == sum(
        s.size for s in made.shards
    )
    assert len(made.shards) > 5
    small = [tmp_path / f"{i}.txt" for i in range(10)]
    for file in small:
        file.write_text("x" * 99)
    sizes = [len(s.parts) for s in making(small, tokenizer, tmp_path, shard_bytes=450).shards]
    assert sizes == [4, 4, 2]  # several files in one shard
    assert len(making(files, tokenizer, tmp_path, shard_bytes=0).shards) == 1


@given(st.lists(st.lists(line, max_size=12), min_size=1, max_size=4), st.integers(20, 300))
@example([["0\r"]], 20)
@settings(max_examples=25, deadline=None)
def test_no_document_is_lost_however_it_is_cut(tmp_path_factory, tiny_tokenizer, texts, size):
    """Files that are cut into shards, and shards of several files."""
    tokenizer = load_tokenizer(tiny_tokenizer)
    folder = tmp_path_factory.mktemp("cut")
    files = []
    for i, lines in enumerate(texts):
        files.append(folder / f"{i}.txt")
        files[-1].write_bytes("\n".join(lines).encode())
    kept = []
    for lines in texts:
        *ended, last = "\n".join(lines).removeprefix("\ufeff").split("\n")
        every = [*(t.removesuffix("\r") for t in ended), last]  # a line feed alone ends a line
        kept += [t for t in every if t and not t.isspace()]
    encoded = tokenizer.encode(kept)
    if not sum(map(len, encoded)):
        return
    assert make(making(files, tokenizer, folder / "w", shard_bytes=size), folder / "out")
    cache = open_cache(folder / "out")
    np.testing.assert_array_equal(cache.tokens[:], np.concatenate(encoded))
    np.testing.assert_array_equal(cache.offsets, np.cumsum([0, *map(len, encoded)]))
    assert cache.chars.tolist() == [len(t) for t in kept]


@pytest.mark.parametrize("workers", [2, 3])
def test_processes_change_nothing(workers, files, tokenizer, in_processes, tmp_path):
    told = []
    assert make(making(files, tokenizer, tmp_path / "w"), tmp_path / "one", workers=1)
    assert make(
        making(files, tokenizer, tmp_path / "w"), tmp_path / "many", workers=workers,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "many")
    total = sum(f.stat().st_size for f in files)
    assert told[-1] == (total, total)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["many", "one"]


def test_machines_change_nothing(files, tokenizer, tmp_path):
    """They come in any order, one of them goes away and another number of them goes on."""
    assert make(making(files, tokenizer, tmp_path / "w"), tmp_path / "one")

    def part(process, processes):
        return make(making(files, tokenizer, tmp_path / "w"), tmp_path / "out", process, processes)

    assert not part(1, 3) and not part(2, 3) and not (tmp_path / "out").exists()
    assert not part(1, 2)
    assert part(0, 2)
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "out")
    assert part(7, 9)  # who comes late finds it done
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "out"]


def test_content_is_of_documents_and_not_of_files(files, tokenizer, tiny_tokenizer, tmp_path):
    text = b"".join(file.read_bytes() for file in files)
    forms = {"a.txt": text, "b.txt.gz": gzip.compress(text), "c.txt.zst": zstandard.compress(text)}
    contents = set()
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        assert make(making([tmp_path / name], tokenizer, tmp_path / "w"), tmp_path / f"{name}.out")
        contents.add(open_cache(tmp_path / f"{name}.out").content)
    (tmp_path / "a.txt").write_bytes(text.replace(b"moon", b"sun"))
    other = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    for i, (some, by) in enumerate([([tmp_path / "a.txt"], tokenizer), (files, other)]):
        make(making(some, by, tmp_path / "w"), tmp_path / f"{i}")
        contents.add(open_cache(tmp_path / f"{i}").content)
    make(making(files[::-1], tokenizer, tmp_path / "w"), tmp_path / "reversed")
    contents.add(open_cache(tmp_path / "reversed").content)
    assert len(contents) == 4


# --- interruptions ---------------------------------------------------------------------------


def test_what_is_done_is_kept(files, tokenizer, tmp_path):
    work = tmp_path / "w"
    first = making(files, tokenizer, work)
    first.begin()
    first.write(first.shards[:3])
    (work / "tokens-00002.bin").write_bytes(b"damaged")
    (work / "tokens-00004.bin.tmp-abc").write_bytes(b"half")
    inodes = [(work / f"tokens-0000{i}.bin").stat().st_ino for i in range(3)]
    again = making(files, tokenizer, work)
    assert [s.number for s in again.todo()] == list(range(2, len(again.shards)))
    assert make(again, tmp_path / "out")
    assert make(making(files, tokenizer, tmp_path / "x"), tmp_path / "fresh")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "fresh")
    now = [(tmp_path / "out" / f"tokens-0000{i}.bin").stat().st_ino for i in range(3)]
    assert [a == b for a, b in zip(inodes, now, strict=True)] == [True, True, False]


@pytest.mark.parametrize("moment", ["unlink", "rename"])
def test_joining_can_be_interrupted_anywhere(moment, files, tokenizer, tmp_path, monkeypatch):
    """Before each file that joining removes, and each that it names."""
    make(making(files, tokenizer, tmp_path / "x", shard_bytes=30000), tmp_path / "fresh")
    started = making(files, tokenizer, tmp_path / "w", shard_bytes=30000)
    started.begin()
    started.write(started.shards)
    real = getattr(os, moment)
    stop = 0
    while not (tmp_path / "out").exists():
        stop += 1
        calls = []

        def strike(*args, calls=calls, stop=stop, **settings):
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return real(*args, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(os, moment, strike)
            try:
                make(making(files, tokenizer, tmp_path / "w", shard_bytes=30000), tmp_path / "out")
            except KeyboardInterrupt:
                continue
    assert stop > 5
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "fresh")


def test_work_of_other_settings_is_refused(files, tokenizer, tiny_tokenizer, tmp_path):
    work, out = tmp_path / "w", tmp_path / "out"
    first = making(files, tokenizer, work)
    first.begin()
    first.write(first.shards[:2])
    before = snapshot(work)
    other = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    for changed, flag in (
        (making(files, other, work), "--tokenizer"),
        (making(files[:1], tokenizer, work), "--text"),
        (making(files, tokenizer, work, text_field="body"), "--field"),
        (making(files, tokenizer, work, txt="file"), "--txt"),
        (making(files, tokenizer, work, shard_bytes=8000), "--shard_mb"),
    ):
        with pytest.raises(InputError, match=f"begun with another {flag} .*--overwrite"):
            make(changed, out)
    assert snapshot(work) == before
    (tmp_path / "w" / "work.json").write_text("{}")
    with pytest.raises(InputError, match="holds no work that can be gone on with: remove it"):
        make(making(files, tokenizer, work), out)
    assert make(making(files, other, work), out, anew=True)
    assert open_cache(out).tokenizer == other.fingerprint and not work.exists()


def test_what_is_there_is_replaced_when_the_new_is_complete(files, tokenizer, tmp_path):
    out = tmp_path / "out"
    make(making(files[:1], tokenizer, tmp_path / "w"), out)
    before = snapshot(out)
    (tmp_path / "w-old").mkdir()  # as an interruption leaves it
    assert not make(making(files, tokenizer, tmp_path / "w"), out, 0, 2, anew=True)
    assert snapshot(out) == before
    assert make(making(files, tokenizer, tmp_path / "w"), out, 1, 2, anew=True)
    assert len(open_cache(out)) == 800
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


# --- what goes wrong -------------------------------------------------------------------------


@dataclass(frozen=True)
class Deadly:
    """A part in whose middle the process is killed."""

    name: str = "large.txt"
    size: int = 10

    def read(self, advance, skipped):
        yield "the cat"
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_named(files, tokenizer, in_processes, tmp_path):
    made = making(files, tokenizer, tmp_path / "w")
    made.begin()
    bad = Shard(99, (Deadly(),), tmp_path / "w")
    with pytest.raises(InputError, match=r"ended while it read large\.txt: .* lower --workers"):
        made.write([*made.shards[:2], bad], workers=2)
    assert not (tmp_path / "w" / "tokens-00099.bin").exists()
    assert make(making(files, tokenizer, tmp_path / "w"), tmp_path / "out")


def test_text_that_cannot_be_read_or_changes(files, tokenizer, in_processes, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\n" * 3000 + b"\xff\n")
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"bad\.txt, line 3001: not valid UTF-8"):
            make(making([bad], tokenizer, tmp_path / "w", shard_bytes=10**6), tmp_path / "out",
                 workers=workers)  # fmt: skip
        assert [p.name for p in tmp_path.iterdir()] == ["bad.txt"]
    bad.write_text("\n \n")
    with pytest.raises(InputError, match="the text holds no documents"):
        make(making([bad], tokenizer, tmp_path / "w"), tmp_path / "out")
    bad.write_text("fine")
    made = making([bad], tokenizer, tmp_path / "w")
    bad.write_text("fine as well")
    with pytest.raises(InputError, match="the text changed while it was read"):
        make(made, tmp_path / "out")
    assert not (tmp_path / "out").exists()
