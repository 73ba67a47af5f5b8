"""Manifests: a checkpoint is trusted only if every file of it is what its manifests say."""

import json
import os

import pytest
from state_examples import flip, largest, truncate

from maxlite.errors import InputError
from maxlite.state import manifest


def flip_manifest(step_folder):
    """A digit of a checksum in it."""
    flip_text(step_folder / "manifest-0-of-1.json")


def flip_text(file):
    text = file.read_text()
    at = text.rindex('"') - 1
    file.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])


def truncate_manifest(step_folder):
    file = step_folder / "manifest-0-of-1.json"
    os.truncate(file, file.stat().st_size // 2)


DAMAGE = {
    "truncated": (truncate, "differs from its manifest"),
    "flipped": (flip, "differs from its manifest"),
    "deleted": (lambda f: largest(f).unlink(), "is missing"),
    "metadata": (lambda f: flip(f, f / "meta" / "metadata"), "meta/metadata differs"),
    "manifest_flipped": (flip_manifest, "differs from its manifest"),
    "manifest_torn": (truncate_manifest, "manifest-0-of-1.json is damaged"),
    "manifest_empty": (lambda f: (f / "manifest-0-of-1.json").write_text(""), "is damaged"),
    "manifest_deleted": (lambda f: (f / "manifest-0-of-1.json").unlink(), "incomplete"),
    "others_manifest_deleted": (
        lambda f: (f / "manifest-0-of-1.json").rename(f / "manifest-1-of-2.json"),
        "incomplete",
    ),
}


def test_a_whole_checkpoint_has_no_problem(three):
    for step in (1, 2, 3):
        assert manifest.problem(three / str(step)) == ""
        assert [manifest.problem(three / str(step), i, 3) for i in range(3)] == ["", "", ""]
    assert manifest.find_verified(three) == (3, {})
    assert manifest.find_verified(three, 2) == (2, {})
    assert manifest.find_verified(three, 7) == (-1, {})
    assert manifest.steps_in(three) == [3, 2, 1]


def test_every_file_is_in_the_manifest(three):
    listed = json.loads((three / "3" / "manifest-0-of-1.json").read_text())
    files = {str(p.relative_to(three / "3")) for p in (three / "3").rglob("*") if p.is_file()}
    assert files - listed.keys() == {"manifest-0-of-1.json"}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_seen_and_the_one_before_is_taken(kind, folder, capsys):
    damage, said = DAMAGE[kind]
    damage(folder / "3")
    assert said in manifest.problem(folder / "3")
    found, problems = manifest.find_verified(folder)
    assert found == 2
    assert problems.keys() == {3} and said in problems[3]
    assert manifest.require_verified(folder) == 2
    assert "checkpoint 3" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"no checkpoint of step 3 .*3: "):
        manifest.require_verified(folder, 3)


def test_each_of_several_readers_sees_its_share(folder):
    flip(folder / "3")
    seen = [manifest.problem(folder / "3", i, 4) for i in range(4)]
    assert len([s for s in seen if s]) == 1


def test_several_damaged_ones_are_passed_over(folder):
    flip(folder / "3")
    truncate(folder / "2")
    found, problems = manifest.find_verified(folder)
    assert found == 1 and problems.keys() == {2, 3}
    flip(folder / "1")
    assert manifest.find_verified(folder)[0] == -1
    with pytest.raises(InputError, match=r"no checkpoint in .*3: .*2: .*1: "):
        manifest.require_verified(folder)


def test_nothing_to_require(tmp_path):
    assert manifest.find_verified(tmp_path / "none") == (-1, {})
    with pytest.raises(InputError, match="is empty"):
        manifest.require_verified(tmp_path / "none")


def test_the_steps_there_are_are_listed(three):
    with pytest.raises(InputError, match=r"step 9 .*\[1, 2, 3\]"):
        manifest.require_verified(three, 9)


# --- several processes ---------------------------------------------------------------------------


@pytest.fixture
def shared(folder):
    """Step 3 as two processes would have written its manifests."""
    (folder / "3" / "manifest-0-of-1.json").unlink()
    for index in range(2):
        manifest.write_manifest(folder / "3", index, 2)
    return folder


def test_each_process_lists_its_share_and_together_they_list_all(shared):
    step = shared / "3"
    listed = [json.loads((step / f"manifest-{i}-of-2.json").read_text()) for i in range(2)]
    assert not listed[0].keys() & listed[1].keys()
    assert abs(len(listed[0]) - len(listed[1])) <= 1
    everything = {str(p.relative_to(step)) for p in step.rglob("*") if p.is_file()}
    assert everything - listed[0].keys() - listed[1].keys() == {
        f"manifest-{i}-of-2.json" for i in range(2)
    }
    assert manifest.find_verified(shared) == (3, {})


@pytest.mark.parametrize("missing", [0, 1])
def test_until_all_have_written_theirs_it_is_incomplete(shared, missing):
    file = shared / "3" / f"manifest-{missing}-of-2.json"
    being_written = file.with_name(f"{file.name}.tmp")
    file.rename(being_written)
    assert manifest.problem(shared / "3") == "incomplete"
    assert manifest.find_verified(shared) == (2, {3: "incomplete"})
    being_written.rename(file)
    assert manifest.problem(shared / "3") == ""


def test_all_readers_take_the_same_one(folder):
    """Whoever reads the damaged half sees it; the others believe it."""
    flip(folder / "3")
    broken = [bool(manifest.problem(folder / "3", i, 2)) for i in range(2)]
    assert sorted(broken) == [False, True]
    whole = broken.index(False)
    answers: list[bool] = []

    def agree(mine: bool) -> bool:
        answers.append(mine)
        return mine and len(answers) > 1  # the other process has seen step 3 to be damaged

    found, problems = manifest.find_verified(folder, -1, (whole, 2), agree)
    assert (found, answers) == (2, [True, True])
    assert problems == {3: "another process found it damaged"}
    alone, _ = manifest.find_verified(folder, -1, (whole, 2))
    assert alone == 3


def test_what_is_no_step_is_passed_over(folder):
    (folder / "4.orbax-checkpoint-tmp").mkdir()
    (folder / "damaged-3-0").mkdir()
    (folder / "notes.txt").touch()
    (folder / "5").mkdir()  # committed, and the process ended before its manifest
    assert manifest.steps_in(folder) == [5, 3, 2, 1]
    assert manifest.find_verified(folder) == (3, {5: "incomplete"})
    assert manifest.steps_in(folder / "none") == []


@pytest.mark.parametrize(("index", "told"), [(0, True), (1, False)])
def test_only_the_first_process_tells_what_is_skipped(index, told, folder, capsys):
    flip(folder / "3")
    answers = iter((False, True))
    assert manifest.require_verified(folder, -1, (index, 2), lambda _: next(answers)) == 2
    assert ("checkpoint 3" in capsys.readouterr().err) is told
