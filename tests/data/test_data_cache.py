import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import pytest

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer, check_rows, load_tokenizer

LINES = ["The cat sees the moon.", "", "한국어 문장", "a <s> b </s>", "x" * 500]


@pytest.fixture
def tokenizer(tiny_tokenizer) -> Tokenizer:
    return load_tokenizer(tiny_tokenizer)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text" / "a.txt"
    path.parent.mkdir()
    path.write_text("\n".join(LINES), "utf-8")
    return path


@pytest.fixture
def counted(tokenizer, monkeypatch):
    """Counts the texts that were really encoded."""
    count = []
    encode = Tokenizer.encode

    def counting(self, texts):
        count.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", counting)
    return count


def run(glob, tokenizer, folder, field="text", **settings):
    with mock.patch.dict(os.environ, MAXLITE_CACHE=str(folder)):
        return tokenize(Source(str(glob), field=field), tokenizer, Data(**settings), False)


def parts(cache):
    return cache.tokens, cache.offsets, cache.bytes, cache.chars, cache.hashes


def test_contents(text, tokenizer, tmp_path):
    cache = run(text, tokenizer, tmp_path / "c")
    kept = [line for line in LINES if line]
    encoded = tokenizer.encode(kept)
    assert len(cache) == len(kept) and cache.tokens.dtype == np.uint16
    np.testing.assert_array_equal(cache.tokens, np.concatenate(encoded))
    np.testing.assert_array_equal(cache.offsets, np.cumsum([0, *map(len, encoded)]))
    assert cache.bytes.tolist() == [len(line.encode()) for line in kept]
    assert cache.chars.tolist() == [len(line) for line in kept]
    digests = [hashlib.blake2b(line.encode(), digest_size=8).digest() for line in kept]
    assert cache.hashes.tolist() == [int.from_bytes(d, "little") for d in digests]
    assert cache.rows == max(map(max, encoded)) + 1
    check_rows(cache, cache.rows)
    with pytest.raises(InputError, match="token ids up to"):
        check_rows(cache, cache.rows - 1)


def test_many_batches_are_the_same_as_one(tiny_text, tokenizer, tmp_path, monkeypatch):
    glob = tiny_text / "*.txt"
    one = run(glob, tokenizer, tmp_path / "one")
    monkeypatch.setattr("maxlite.tokenizer.batching.CHARACTERS", 300)
    many = run(glob, tokenizer, tmp_path / "many")
    assert one.path.name == many.path.name and len(one) == 800
    for a, b in zip(parts(one), parts(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_text_is_shared_among_processes(tiny_text, tokenizer, tmp_path, monkeypatch):
    one = run(tiny_text / "*.txt", tokenizer, tmp_path / "one")
    monkeypatch.setattr("maxlite.data.making._SMALLEST", 9000)
    monkeypatch.setattr("maxlite.tokenizer.workers._PROCESS_BYTES", 9000)
    monkeypatch.setattr("maxlite.tokenizer.workers.cores", lambda: 2)
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "encode", None)  # this process does nothing itself
        many = run(tiny_text / "*.txt", tokenizer, tmp_path / "many")
    assert (one.shards, many.shards) == (1, 8) and one.content == many.content
    assert one.path.name == many.path.name
    for a, b in zip(parts(one), parts(many), strict=True):
        np.testing.assert_array_equal(a, b)


def test_large_vocabularies_are_stored_wider(text, tokenizer, tmp_path):
    tokenizer.rows = 1 << 16
    assert run(text, tokenizer, tmp_path / "a").tokens.dtype == np.uint16
    tokenizer.rows += 1
    assert run(text, tokenizer, tmp_path / "b").tokens.dtype == np.uint32


def test_reused_and_never_stale(text, tokenizer, counted, tmp_path):
    first = run(text, tokenizer, tmp_path / "c")
    assert run(text, tokenizer, tmp_path / "c").path.name == first.path.name
    moved = shutil.copy(text, tmp_path / "other.txt")
    assert run(moved, tokenizer, tmp_path / "c").path.name == first.path.name
    assert sum(counted) == len(first)  # the second and third time nothing was encoded

    # The same size and the same time, another content.
    stat = text.stat()
    text.write_bytes(text.read_bytes().replace(b"cat", b"dog"))
    os.utime(text, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert text.stat().st_size == stat.st_size and text.stat().st_mtime_ns == stat.st_mtime_ns
    second = run(text, tokenizer, tmp_path / "c")
    assert second.path.name != first.path.name
    assert tokenizer.decode(second.tokens[: int(second.offsets[1])]) == "The dog sees the moon."


def test_key_follows_everything_that_matters(text, tokenizer, tmp_path):
    line = json.dumps({"text": "one", "body": "one"})
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text(line)
    keys = {
        run(text, tokenizer, tmp_path / "c").path.name,
        run(text, tokenizer, tmp_path / "c", txt="file").path.name,
        run(jsonl, tokenizer, tmp_path / "c").path.name,
        run(jsonl, tokenizer, tmp_path / "c", field="body").path.name,
        run(shutil.copy(jsonl, tmp_path / "b.txt"), tokenizer, tmp_path / "c").path.name,
    }
    tokenizer.fingerprint = "another"
    keys.add(run(text, tokenizer, tmp_path / "c").path.name)
    assert len(keys) == 6


def test_order_of_files_matters(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    first = run(tmp_path / "*.txt", tokenizer, tmp_path / "c")
    (tmp_path / "a.txt").write_text("two")
    (tmp_path / "b.txt").write_text("one")
    second = run(tmp_path / "*.txt", tokenizer, tmp_path / "c")
    assert first.path.name != second.path.name
    assert [tokenizer.decode(c.tokens[:]) for c in (first, second)] == ["one two", "two one"]


@pytest.mark.parametrize("name", ["tokens-00000.bin", "offsets.bin", "hashes.bin", "meta.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_caches_are_made_again(name, damage, text, tokenizer, tmp_path):
    first = run(text, tokenizer, tmp_path / "c")
    expected = [np.array(part) for part in parts(first)]
    file = first.path / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-3])
    again = run(text, tokenizer, tmp_path / "c")
    for a, b in zip(parts(again), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_leftovers_of_killed_processes_are_removed(text, tokenizer, tmp_path):
    key = run(text, tokenizer, tmp_path / "c").path.name
    folder = tmp_path / "c" / "tokens"
    shutil.rmtree(folder / key)
    stale = folder / f"{key}.tmp-abc"
    stale.mkdir()
    (stale / "tokens-00000.bin").write_bytes(b"half")
    run(text, tokenizer, tmp_path / "c")
    assert sorted(p.name for p in folder.iterdir()) == [key, f"{key}.lock"]


def test_nothing_is_left_behind_on_failure(text, tokenizer, tmp_path):
    text.write_bytes(text.read_bytes() + b"\n\xff\n")
    with pytest.raises(InputError, match=r"a\.txt, line 6: not valid UTF-8"):
        run(text, tokenizer, tmp_path / "c")
    assert [p.suffix for p in (tmp_path / "c" / "tokens").iterdir()] == [".lock"]


def test_a_file_that_changes_meanwhile_is_refused(text, tokenizer, tmp_path, monkeypatch):
    encode = Tokenizer.encode

    def meddling(self, texts):
        text.write_text("something else entirely")
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", meddling)
    with pytest.raises(InputError, match="changed while it was read"):
        run(text, tokenizer, tmp_path / "c")


def test_empty_corpus(tokenizer, tmp_path):
    (tmp_path / "a.txt").write_text("\n \n")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(InputError, match="holds no documents"):
        run(tmp_path / "*.txt", tokenizer, tmp_path / "c")


def test_no_place_to_write(text, tokenizer, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"token cache in .*/file/tokens cannot be written"):
        run(text, tokenizer, tmp_path / "file")


def test_full_disk(text, tokenizer, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left on device; free some space"):
        run(text, tokenizer, tmp_path / "c")
    assert [p.suffix for p in (tmp_path / "c" / "tokens").iterdir()] == [".lock"]


PROGRAM = """
import sys, time
from maxlite.config import Data, Source
from maxlite.data import cache
from maxlite.tokenizer import Tokenizer, load_tokenizer
encode, made = Tokenizer.encode, []
def slow(self, texts):
    made.append(1)
    open(sys.argv[3], "w").close()
    time.sleep(float(sys.argv[4]))
    return encode(self, texts)
Tokenizer.encode = slow
found = cache.tokenize(Source(sys.argv[1]), load_tokenizer(sys.argv[2]), Data())
print(len(made), found.path.name, int(found.tokens[:].sum()))
"""


def start(text, tokenizer, folder, began, delay):
    arguments = [str(a) for a in (text, tokenizer, began, delay)]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MAXLITE_CACHE": str(folder)},
    )


def wait_for(path):
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def test_two_processes_make_it_once(text, tiny_tokenizer, tokenizer, tmp_path):
    began = tmp_path / "began"
    first = start(text, tiny_tokenizer, tmp_path / "c", began, 1.5)
    wait_for(began)
    second = start(text, tiny_tokenizer, tmp_path / "c", began, 0)
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    made = [int(out.split()[0]) for out, _ in outputs]
    assert made == [1, 0] and outputs[0][0].split()[1:] == outputs[1][0].split()[1:]
    assert "waiting for another process" in outputs[1][1]
    expected = np.concatenate(tokenizer.encode([line for line in LINES if line]))
    assert int(outputs[1][0].split()[2]) == expected.sum()


def test_a_killed_process_does_no_harm(text, tiny_tokenizer, tokenizer, tmp_path):
    began = tmp_path / "began"
    process = start(text, tiny_tokenizer, tmp_path / "c", began, 60)
    wait_for(began)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert any(".tmp-" in p.name for p in (tmp_path / "c" / "tokens").iterdir())
    cache = run(text, tokenizer, tmp_path / "c")
    assert len(cache) == 4
    assert not any(".tmp-" in p.name for p in cache.path.parent.iterdir())
