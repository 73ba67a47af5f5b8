"""A short run of the fault harness, each kind of hit once; and that it can find fault."""

import json
import shutil
from pathlib import Path

import pytest
from commands import call, done

from tools.disturbed import desk as desk_lib
from tools.disturbed import trial
from tools.disturbed.attempt import PHASES
from tools.disturbed.hits import KINDS, Hit, draw
from tools.disturbed.trial import FAILED, REFUSED, SAME, Verdict

SHORT = (
    "SIGKILL in a save",
    "SIGTERM",
    "file deleted",
    "bit flipped",
    "full disk",
    "one of two killed",
)
SEED = 385  # draws each phase but those that compile anew; all checkpoints lose a file


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> tuple[Path, str]:
    """Where the runs of a short session and its figures.json are, and the table it printed."""
    here = tmp_path_factory.mktemp("faults")
    outcome = call(
        "tools.faults", f"--runs={len(SHORT)}", f"--kinds={','.join(SHORT)}", f"--seed={SEED}",
        "--jobs=2", f"--out={here}/runs", f"--json={here}/figures.json",
    )  # fmt: skip
    return here, done(outcome).out


def test_each_kind_of_hit_ends_in_the_same_bytes_or_a_refusal(short):
    here, table = short
    figures = json.loads((here / "figures.json").read_text())
    hits = {each["kind"]: each for each in figures["hits"]}
    assert list(hits) == list(SHORT)
    for kind, each in hits.items():
        assert each["hit"]["outcome"] == (REFUSED if kind == "file deleted" else SAME), each
        assert kind in table
    assert hits["file deleted"]["which"] == "all"
    assert "restore one from a copy" in hits["file deleted"]["hit"]["why"]
    assert "DAMAGED" in hits["bit flipped"]["hit"]["notes"]["told"]
    assert "the disk or a quota is full" in hits["full disk"]["hit"]["notes"]["said"]
    phases = {each["hit"]["phase"] for each in hits.values()}
    assert {"save", "evaluation"} <= phases


def test_hits_are_drawn_by_the_seed():
    drawn = [draw(0, n, KINDS[n % len(KINDS)]) for n in range(200)]
    assert drawn == [draw(0, n, KINDS[n % len(KINDS)]) for n in range(200)]
    assert drawn != [draw(1, n, KINDS[n % len(KINDS)]) for n in range(200)]
    assert {hit.phase for hit in drawn if hit.kind == "SIGTERM"} == set(PHASES)
    assert {hit.index for hit in drawn if hit.processes == 2} == {0, 1}


@pytest.fixture
def two_folders(tmp_path):
    """Two trials that came to the same."""
    for name in ("one", "other"):
        folder = tmp_path / name
        (folder / "run").mkdir(parents=True)
        (folder / "better").mkdir()
        (folder / "better" / "model.safetensors").write_bytes(b"weights")
        line = {"step": 1, "loss": 2.5, "tokens_per_second": len(name)}
        (folder / "run" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    return tmp_path / "one", tmp_path / "other"


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("better/model.safetensors", "Weights", "model.safetensors"),
        ("better/extra.json", "{}", "extra.json"),
        ("run/metrics.jsonl", '{"step": 1, "loss": 2.25}\n', "metrics"),
        ("better.tmp-0123abcd", "", "left behind better.tmp"),
    ],
)
def test_a_run_that_differs_is_found(two_folders, file, content, words):
    one, other = two_folders
    trial._compare(one, other)
    (one / file).write_text(content)
    with pytest.raises(trial.Wrong, match=words):
        trial._compare(one, other)


def test_a_refusal_where_a_checkpoint_is_left_is_a_fault(short, monkeypatch):
    """Here all are damaged, and the harness is told that one is not."""
    desk = desk_lib.Desk(short[0] / "runs")
    hit = Hit("bit flipped", "step", 8, 0.0, 0, "all", 0.5)
    damage = Hit.damage
    monkeypatch.setattr(Hit, "damage", lambda *given: damage(*given) | {"left": True})
    verdict = trial.disturb(desk, 99, hit, short[0])
    assert verdict.outcome == FAILED and "it did not go on" in verdict.why


@pytest.fixture
def judge(monkeypatch):
    """Lets a function of (desk, number, hit, reference) stand for the runs, which take time."""
    from tools.disturbed import trial as module  # as the tool has it now

    monkeypatch.setattr(module, "undisturbed", lambda desk, processes: desk.here)
    return lambda verdict: monkeypatch.setattr(module, "disturb", verdict)


def test_a_failure_is_told_with_status_1_and_its_folder_is_kept(tmp_path, judge):
    judge(lambda *_: Verdict(FAILED, "save", 3, "the export differs"))
    outcome = call("tools.faults", "--runs=2", f"--json={tmp_path}/figures.json")
    sentence = outcome.sentence
    assert "2 of 2 runs" in sentence and "--only=NUMBER" in sentence
    assert "run 0 (SIGKILL, save): the export differs" in outcome.err
    assert json.loads((tmp_path / "figures.json").read_text())["outcomes"][FAILED] == 2
    kept = sentence.split("their folders are in ")[1].split(",")[0]
    shutil.rmtree(kept)


def test_ended_early_it_tells_of_the_runs_so_far(tmp_path, judge):
    def one(desk, number, *_):
        if number == 1:
            raise KeyboardInterrupt
        return Verdict(SAME, "step", 3)

    judge(one)
    outcome = call("tools.faults", "--runs=3", f"--json={tmp_path}/figures.json")
    assert outcome.sentence == "ended after 1 of 3 runs"
    assert outcome.out.splitlines()[1].split()[:3] == ["SIGKILL", "1", "3-3"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert [hit["number"] for hit in figures["hits"]] == [0]


def test_bad_input_is_refused(tmp_path):
    assert "no 'SIGFOO'" in call("tools.faults", "--kinds=SIGFOO").sentence
    assert "--only=9" in call("tools.faults", "--runs=9", "--only=9").sentence
    assert "exists" in call("tools.faults", f"--out={tmp_path}").sentence
    shown = done(call("tools.faults", "--runs=3", "--dry_run")).out
    assert [line.split()[0] for line in shown.splitlines()] == ["0", "1", "2"]
