"""Cleaning: passes and tasks, going on after a stop, and what is refused."""

import gzip
import json
import os
import resource
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("datatrove")

from maxlite.corpus.clean import clean
from maxlite.corpus.cleaning import Cleaning, Text, resolve
from maxlite.corpus.step import Change, Corpuswide, Filter
from maxlite.errors import InputError


@dataclass
class Shout(Change):
    def change(self, text):
        return text.upper().strip("!")


@dataclass
class Short(Filter):
    least: int = 5

    def reason(self, text):
        return "short" if len(text) < self.least else ""


@dataclass
class Once(Corpuswide):
    """Keeps the first text of each beginning."""

    letters: int = 6

    def match_parts(self, rows):
        return 3

    def sign(self, texts):
        return np.array([t[: self.letters].ljust(self.letters) for t in texts], f"U{self.letters}")

    def match(self, part, parts, signatures):
        every = np.concatenate(signatures)
        firsts = {}
        for place, said in enumerate(every.tolist()):
            if sum(map(ord, said)) % parts == part:
                firsts.setdefault(said, place)
        return np.array(sorted(firsts.values()), np.int64)

    def resolve(self, signatures, matches):
        kept = np.zeros(sum(map(len, signatures)), bool)
        kept[np.concatenate(matches)] = True
        return np.split(kept, np.cumsum([len(s) for s in signatures])[:-1])

    def judge(self, texts, verdict, start):
        return [
            (t, "" if k else "again")
            for t, k in zip(texts, verdict[start : start + len(texts)], strict=True)
        ]


@dataclass
class Deadly(Filter):
    """Kills its process where a text says so, the first time."""

    marker: str = ""

    def reason(self, text):
        if "DIE" in text and not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ""


@dataclass
class Faulty(Filter):
    def reason(self, text):
        return str(1 / 0) if "BAD" in text else ""


@dataclass
class FaultyOnce(Once):
    def sign(self, texts):
        return super().sign([text if "BAD" not in text else 1 / 0 for text in texts])


@dataclass
class Counted(Filter):
    """Notes in a file that it was opened."""

    file: str = ""

    def open(self):
        with open(self.file, "a") as file:
            file.write("opened\n")

    def reason(self, text):
        return ""


LINES = [
    f"{'line one two three'.split()[i % 4]} {i // 3:03d} {'ab' * (i % 5)}" for i in range(6000)
]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "raw.txt"
    path.write_text("".join(f"{line}\n" for line in LINES), "utf-8")
    return path


def cleaning(text, out, steps=(), **settings):
    return resolve(Cleaning(text=str(text), out=str(out), steps=tuple(steps), **settings))


def cleaned(out):
    """The documents of a cleaned corpus, in order."""
    import zstandard

    found = []
    for path in sorted(Path(out).glob("*.jsonl.zst")):
        with zstandard.open(path, "rt") as file:
            found += [json.loads(line)["text"] for line in file]
    return found


def small_shards(monkeypatch, size):
    monkeypatch.setattr("maxlite.corpus.cleaning._SMALLEST", size)


STEPS = (Short(9), Once(8), Shout(), Once(6))


def firsts(texts, letters):
    found = {}
    for text in texts:
        found.setdefault(text[:letters], text)
    return list(found.values())


def by_hand():
    """What STEPS leave of LINES."""
    long = [text for text in LINES if len(text) >= 9]
    return firsts([text.upper().strip("!") for text in firsts(long, 8)], 6)


@pytest.mark.parametrize(("workers", "size"), [(1, 1 << 22), (1, 9000), (2, 9000), (2, 30000)])
def test_result_is_the_same_for_any_workers_and_shards(text, tmp_path, monkeypatch, workers, size):
    small_shards(monkeypatch, size)
    figures = clean(cleaning(text, tmp_path / "out", STEPS, workers=workers))
    kept = cleaned(tmp_path / "out")
    assert kept == by_hand() and 0 < len(kept) < len(LINES)
    assert figures["steps"][-1]["documents_out"] == len(kept)
    assert not (tmp_path / "out.work").exists()


def test_funnel_counts_documents_bytes_and_reasons(text, tmp_path):
    figures = clean(cleaning(text, tmp_path / "out", STEPS, workers=1))
    assert figures == json.loads((tmp_path / "out/funnel.json").read_text())
    read, short, once, shout, again = figures["steps"]
    assert [row["name"] for row in figures["steps"]] == ["read", "short", "once", "shout", "once"]
    assert read["documents_in"] == read["documents_out"] == len(LINES)
    assert read["bytes_out"] == sum(len(t.encode()) for t in LINES) == short["bytes_in"]
    dropped = [t for t in LINES if len(t) < 9]
    about = {"documents": len(dropped), "bytes": sum(len(t.encode()) for t in dropped)}
    assert short["reasons"] == {"short": about} and dropped
    assert short["documents_out"] == once["documents_in"] == len(LINES) - len(dropped)
    assert once["documents_in"] - once["documents_out"] == once["reasons"]["again"]["documents"]
    assert shout["changed"] == shout["documents_out"] == again["documents_in"]
    assert short["settings"] == {"least": 9}
    assert all(row["seconds"] > 0 for row in (read, short, once, shout))


def test_dropped_documents_are_kept_with_their_reason(text, tmp_path):
    config = cleaning(text, tmp_path / "out", (Short(9), Once(8)), keep_dropped=True, workers=1)
    read, first, second = clean(config)["steps"]
    import zstandard

    with zstandard.open(tmp_path / "out/dropped/00-short/00000.jsonl.zst", "rt") as file:
        short = [json.loads(line) for line in file]
    assert [d["text"] for d in short] == [t for t in LINES if len(t) < 9]
    assert {d["reason"] for d in short} == {"short"}
    assert short[0]["id"].startswith("raw.txt:0:")
    assert (tmp_path / "out/dropped/01-once/00000.jsonl.zst").exists()
    assert first["examples"] == [{"reason": "short", "text": d["text"]} for d in short[:5]]
    assert {said["reason"] for said in second["examples"]} == {"again"} and "examples" not in read


def test_killed_process_is_told_and_the_rest_goes_on(text, tmp_path, monkeypatch):
    small_shards(monkeypatch, 9000)
    lines = LINES.copy()
    lines[4000] += " DIE"
    text.write_text("\n".join(lines))
    marker = tmp_path / "died"
    config = cleaning(text, tmp_path / "out", (Deadly(str(marker)), Once(8)), workers=2)
    with pytest.raises(InputError, match=r"a process was killed during the pass .*start again"):
        clean(config)
    assert marker.exists() and not (tmp_path / "out").exists()
    assert list((tmp_path / "out.work/passes/00/completions").iterdir())
    clean(config)
    whole = cleaning(text, tmp_path / "whole", (Short(0), Once(8)), workers=1)
    clean(whole)
    assert cleaned(tmp_path / "out") == cleaned(tmp_path / "whole")


def test_done_tasks_are_not_done_again(text, tmp_path, monkeypatch):
    small_shards(monkeypatch, 9000)
    config = cleaning(text, tmp_path / "out", STEPS, workers=1)
    stopped = tmp_path / "stop"

    def apply(self, texts, real=Short.apply):
        count["applied"] += 1
        if count["applied"] == 7 and not stopped.exists():
            stopped.touch()
            raise KeyboardInterrupt
        return real(self, texts)

    count = {"applied": 0}
    monkeypatch.setattr(Short, "apply", apply)
    with pytest.raises(KeyboardInterrupt):
        clean(config)
    clean(config)
    shards = len(list((tmp_path / "out").glob("*.zst")))
    resumed = cleaned(tmp_path / "out")
    again = count["applied"]
    count["applied"] = 100
    clean(config, overwrite=True)
    assert cleaned(tmp_path / "out") == resumed == by_hand()
    assert shards > 0 and again == (count["applied"] - 100) + 1  # only the stopped one twice


def test_other_settings_are_not_mixed_with_begun_work(text, tmp_path):
    begun = tmp_path / "out.work"
    broken = cleaning(text, tmp_path / "out", (Short(1000),), workers=1)
    with pytest.raises(InputError, match=r"no document is left: the step 'short' dropped 6,000"):
        clean(broken)
    assert begun.exists() and not (tmp_path / "out").exists()
    with pytest.raises(InputError, match=r"begun with other settings, code or files \(steps\)"):
        clean(cleaning(text, tmp_path / "out", (Short(3),), workers=1))
    clean(cleaning(text, tmp_path / "out", (Short(3),), workers=1), overwrite=True)
    assert cleaned(tmp_path / "out") == LINES


def test_nothing_is_replaced_unasked(text, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(InputError, match=r"exists; choose another --config\.out"):
        clean(cleaning(text, out))
    assert [p.name for p in out.iterdir()] == ["mine"]
    clean(cleaning(text, out, workers=1), overwrite=True)
    assert cleaned(out) == LINES


def test_what_another_cleaning_made_meanwhile_is_not_replaced(text, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def named_late(*arguments):
        out.mkdir(exist_ok=True)
        return ""

    monkeypatch.setattr("maxlite.corpus.clean._summary", named_late)
    with pytest.raises(InputError, match=r"out exists; choose another"):
        clean(cleaning(text, out, workers=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw.txt"]


def test_dry_run_writes_nothing(text, tmp_path, capsys):
    assert clean(cleaning(text, tmp_path / "out", STEPS), dry_run=True) is None
    assert "steps: short, once, shout, once" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw.txt"]


def test_datatroves_own_blocks_are_steps_too(text, tmp_path):
    from datatrove.pipeline.filters import RegexFilter

    figures = clean(cleaning(text, tmp_path / "out", (RegexFilter("^two"), Shout()), workers=1))
    assert cleaned(tmp_path / "out") == [t.upper() for t in LINES if not t.startswith("two")]
    row = figures["steps"][1]
    assert row["documents_in"] == len(LINES) > row["documents_out"] > 0 and row["bytes_out"]


def test_a_damaged_file_leaves_nothing_of_the_result(tmp_path):
    whole = tmp_path / "a.txt"
    whole.write_text("\n".join(LINES))
    packed = gzip.compress("\n".join(LINES).encode())
    (tmp_path / "b.txt.gz").write_bytes(packed[: len(packed) // 2])
    config = cleaning(f"{tmp_path}/*.txt*", tmp_path / "out", (Shout(),), workers=2)
    with pytest.raises(InputError, match=r"b\.txt\.gz is a damaged gzip file"):
        clean(config)
    assert not (tmp_path / "out").exists()


def test_a_record_without_its_field_is_named(tmp_path):
    lines = [{"text": "fine"}, {"content": "not here"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: no field 'text' \(it has 'content'\)"):
        clean(cleaning(tmp_path / "a.jsonl", tmp_path / "out", workers=1))


def test_invalid_text_is_refused_or_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"good\n\xff\xfe bad\nalso good\n")
    with pytest.raises(InputError, match=r"a\.txt, line 2: not valid UTF-8"):
        clean(cleaning(tmp_path / "a.txt", tmp_path / "out", workers=1))
    config = cleaning(tmp_path / "a.txt", tmp_path / "o", read=Text(skip_invalid=True), workers=1)
    read = clean(config)["steps"][0]
    assert (read["documents_in"], read["documents_out"]) == (3, 2)
    assert read["reasons"] == {"not UTF-8": {"documents": 1, "bytes": 0}}


def test_a_file_that_changes_after_the_beginning_is_refused(text, tmp_path, monkeypatch):
    config = cleaning(text, tmp_path / "out", (Short(1000),), workers=1)
    with pytest.raises(InputError, match="no document is left"):
        clean(config)
    text.write_text("other\n")
    with pytest.raises(InputError, match=r"other settings, code or files \(shards\)"):
        clean(config)


def test_bad_input_leaves_nothing_if_nothing_was_done(tmp_path):
    (tmp_path / "a.jsonl").write_text("no JSON\n")
    with pytest.raises(InputError, match=r"a\.jsonl, line 1: not a JSON object"):
        clean(cleaning(tmp_path / "a.jsonl", tmp_path / "out", workers=1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_full_disk_is_told_and_leaves_nothing(text, tmp_path):
    config = cleaning(text, tmp_path / "out", (Shout(),), workers=1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 13, before[1]))
    try:
        with pytest.raises(InputError, match=r"there is no room in .* free some space and run"):
            clean(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == ["raw.txt"]


@pytest.mark.parametrize("nothing", ["", "\n \n"])
def test_a_corpus_without_text_is_told_from_one_that_is_dropped(tmp_path, nothing):
    (tmp_path / "a.txt").write_text(nothing)
    with pytest.raises(InputError, match=r"there is no text in the files that .*a\.txt names"):
        clean(cleaning(tmp_path / "a.txt", tmp_path / "out", (Short(),), workers=1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(("workers", "step"), [(1, Faulty), (2, Faulty), (1, FaultyOnce)])
def test_the_document_at_which_a_step_fails_is_named(text, tmp_path, workers, step):
    lines = LINES.copy()
    lines[4321] += " BAD"
    text.write_text("\n".join(lines))
    said = (
        r"the step 'faulty.*' fails at document raw\.txt:0:4321: ZeroDivisionError: .*, line \d+\)"
    )
    with pytest.raises(InputError, match=said):
        clean(cleaning(text, tmp_path / "out", (step(),), workers=workers))


def divide(document):
    return 1 / 0


def divide_more(document):
    return 2 / 0


def test_datatroves_blocks_are_known_again_and_fail_in_a_sentence(text, tmp_path, capsys):
    from datatrove.pipeline.filters import LambdaFilter

    def broken(tested):
        steps = (Short(9), Once(8), LambdaFilter(tested))
        with pytest.raises(InputError) as raised:
            clean(cleaning(text, tmp_path / "out", steps, workers=1))
        return str(raised.value)

    assert "'LambdaFilter' fails at document raw.txt:0:0: ZeroDivisionError" in broken(divide)
    assert "'LambdaFilter' fails at document raw.txt:0:0: ZeroDivisionError" in broken(divide)
    assert "going on with" in capsys.readouterr().err
    assert "other settings, code or files (steps)" in broken(divide_more)


def test_a_step_is_opened_once_in_a_process_and_pass(text, tmp_path, monkeypatch):
    small_shards(monkeypatch, 9000)
    step = Counted(str(tmp_path / "opened"))
    clean(cleaning(text, tmp_path / "out", (step, Once(8)), workers=1))
    assert (tmp_path / "opened").read_text() == "opened\n"
    assert "_open" not in vars(step)  # and what it has opened would not be sent on
