import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer import batching, load_tokenizer, workers
from maxlite.tokenizer.counting import Ids, count, count_texts
from maxlite.tokenizer.counts import FileCounts

LINES = [
    "The cat sees the moon today.",
    "한국어 문장과 emoji 🙂",
    " two  spaces <s> ",
    "가나다" * 9,
]
line = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@dataclass(frozen=True)
class Lines:
    """A part that is there already."""

    name: str
    texts: tuple = ()
    size: int = 10
    failure: Exception | None = None
    dies: bool = False

    def read(self, advance, skipped):
        for text in self.texts:
            advance(7)
            skipped(1)
            yield text
        if self.failure:
            raise self.failure
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module", params=["json", "model"])
def tokenizer(request, tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer / f"tokenizer.{request.param}")


@pytest.fixture
def in_processes(monkeypatch):
    """However little there is to count."""
    monkeypatch.setattr(workers, "_PROCESS_BYTES", 1)


def expected(tokenizer, texts):
    numbers = Counter(i for text in texts for i in tokenizer.encode_one(text).tolist())
    return [numbers[i] for i in range(tokenizer.rows)]


def test_figures(tokenizer):
    counts = count(tokenizer, [Lines("b", tuple(LINES[:3])), Lines("a", tuple(LINES[3:]))])
    assert counts.counts.tolist() == expected(tokenizer, LINES)
    assert counts.counts.dtype == np.int64 and counts.fingerprint == tokenizer.fingerprint
    assert [file.name for file in counts.files] == ["a", "b"]
    total = counts.total
    assert total.tokens == counts.counts.sum() and total.documents == total.skipped == 4
    assert total.words == sum(len(text.split()) for text in LINES)
    assert total.characters == sum(map(len, LINES))
    assert total.bytes == sum(len(text.encode()) for text in LINES)


@given(st.lists(line, max_size=12), st.lists(line, max_size=12), st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_parts_add_up_to_the_whole(tiny_tokenizer, first, second, batch):
    """However the texts are divided into parts, sums and batches."""
    tokenizer = load_tokenizer(tiny_tokenizer)
    before = batching.CHARACTERS
    whole = count_texts(tokenizer, first + second)
    try:
        batching.CHARACTERS = batch
        sums = count_texts(tokenizer, first) + count_texts(tokenizer, second)
        parts = count(tokenizer, [Lines("text", tuple(first)), Lines("text", tuple(second))])
    finally:
        batching.CHARACTERS = before
    assert whole.counts.tolist() == sums.counts.tolist() == parts.counts.tolist()
    assert whole.counts.tolist() == expected(tokenizer, first + second)
    named = FileCounts("total") + whole.total
    assert named == sums.total == parts.total + FileCounts("", skipped=-parts.total.skipped)


def test_the_number_of_processes_changes_nothing(tokenizer, in_processes, tiny_text):
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    parts = [Lines(f"{i % 3}", tuple(lines[i::7]), size=i) for i in range(7)]
    parts.append(Lines("ids", (Ids(np.array([5, 5, 399]), 2),)))
    alone = count(tokenizer, parts, workers=1)
    told = []
    several = count(tokenizer, parts, 3, lambda done, total: told.append((done, total)))
    assert several == alone
    assert several.counts.tolist()[399] == expected(tokenizer, lines)[399] + 1
    assert several.total.documents == 402 and several.total.words is None
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (31, 31) and len(told) > 8


def test_ids_are_counted_as_they_are(tokenizer):
    given_ids = Ids(np.array([1, 399, 1], np.uint16), 2, 30, 40)
    counts = count(tokenizer, [Lines("c", (given_ids, Ids(np.zeros(0, np.int64), 1, 0, 0)))])
    assert counts.counts[[1, 399]].tolist() == [2, 1] and counts.total.tokens == 3
    total = counts.total
    assert (total.documents, total.words, total.characters, total.bytes) == (3, None, 30, 40)


def test_nothing_to_count(tokenizer):
    for parts in ([], [Lines("empty")]):
        assert not count(tokenizer, parts).counts.any()


def test_memory_is_not_held(tokenizer):
    """What was counted is gone: a stream of any length is taken a batch at a time."""
    living = []

    class Text(str):
        def __del__(self):
            living.pop()

    def stream():
        for i in range(3 * batching.TEXTS):
            living.append(i)
            assert len(living) <= 2 * batching.TEXTS + 1  # the first is looked at
            yield Text("a")

    assert count_texts(tokenizer, stream()).total.documents == 3 * batching.TEXTS


def test_encoders_get_one_thread_each(tokenizer, monkeypatch):
    switch = "TOKENIZERS_PARALLELISM"
    seen = []
    for before in ("true", None):
        if before:
            monkeypatch.setenv(switch, before)
        else:
            monkeypatch.delenv(switch)

        class Watch(Lines):
            def read(self, advance, skipped):
                seen.append(os.environ[switch])
                return iter(())

        count(tokenizer, [Watch("a")], workers=1)
        count(tokenizer, [Watch("a")], workers=2)
        assert os.environ.get(switch) == before
    assert seen == ["false", "true"] * 2


# --- processes that go wrong ---------------------------------------------------------------------


def test_an_error_in_a_process_arrives_as_its_sentence(tokenizer, in_processes):
    parts = [Lines("good", tuple(LINES)), Lines("bad", failure=InputError("bad.txt, line 3: no"))]
    with pytest.raises(InputError, match=r"^bad\.txt, line 3: no$"):
        count(tokenizer, parts, workers=2)
    parts[1] = Lines("bad", failure=PermissionError(13, "Permission denied", "bad.txt"))
    with pytest.raises(
        InputError, match=r"^bad\.txt cannot be read or written: Permission denied$"
    ):
        count(tokenizer, parts, workers=2)
    parts[1] = Lines("bad", failure=ZeroDivisionError("a fault of ours"))
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*a fault of ours"):
        count(tokenizer, parts, workers=2)


def test_a_process_that_dies_is_named(tokenizer, in_processes):
    parts = [Lines("good", tuple(LINES)), Lines("large.txt", dies=True)]
    with pytest.raises(InputError, match=r"read large\.txt: .* --workers"):
        count(tokenizer, parts, workers=2)


def test_a_tokenizer_that_changes_is_refused(tiny_tokenizer, tmp_path, in_processes):
    path = tmp_path / "tokenizer.json"
    path.write_bytes((tiny_tokenizer / "tokenizer.json").read_bytes())
    tokenizer = load_tokenizer(path)
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"tokenizer\.json changed while it was used"):
        count(tokenizer, [Lines("a", tuple(LINES)), Lines("b")], workers=2)


ENDLESS = """
import sys, time
from pathlib import Path
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.counting import count


class Endless:
    name, size = "endless", 1 << 30

    def read(self, advance, skipped):
        import os
        Path(sys.argv[2], str(os.getpid())).touch()
        time.sleep(600)  # it neither reads nor says anything
        yield "the cat"


if __name__ == "__main__":
    count(load_tokenizer(sys.argv[1]), [Endless(), Endless()], 2)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def blocked(pid: int) -> int:
    """The signals that a process blocks, as bits."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_their_parent(number, tiny_tokenizer, tmp_path):
    program = tmp_path / "endless.py"
    program.write_text(ENDLESS)
    pids = tmp_path / "pids"
    pids.mkdir()
    process = subprocess.Popen(
        [sys.executable, program, tiny_tokenizer, pids],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 60
        while len(started := [int(file.name) for file in pids.iterdir()]) < 2:
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        if sys.platform == "linux":  # none of them hears Ctrl-C, or it would be told twice
            assert all(blocked(pid) & 1 << (signal.SIGINT - 1) for pid in started)
        if number == signal.SIGINT:  # as a terminal sends it
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, said = process.communicate(timeout=30)
        assert process.returncode == (1 if number == signal.SIGINT else 0) or process.returncode < 0
        assert said.count("Traceback") == (number == signal.SIGINT), said  # the parent's own
        while any(map(alive, started)):
            assert time.monotonic() < until, "they go on"
            time.sleep(0.02)
    finally:
        process.kill()
