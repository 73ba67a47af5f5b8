"""Files and folders that are there as a whole or not at all, whatever happens on the way."""

import errno
import os
import subprocess
import sys

import pytest

from maxlite import outputs
from maxlite.errors import InputError


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def names(path):
    return sorted(p.name for p in path.iterdir())


def old_folder(path):
    path.mkdir()
    (path / "old").write_bytes(b"old")
    return path


def write(out, replace=False):
    with outputs.new_folder(out, replace) as folder:
        (folder / "new").write_bytes(b"new")


# --- files ---------------------------------------------------------------------------------------


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "x.txt"
    outputs.write_text(path, "한\r\n")
    assert path.read_bytes() == "한\r\n".encode()
    with outputs.new_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == "한\r\n".encode()
    assert contents(tmp_path) == {"x.txt": b"new"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_file_that_fails_changes_nothing(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(error), outputs.new_file(path) as temporary:
        temporary.write_text("half")
        raise error
    with pytest.raises(UnicodeEncodeError):
        outputs.write_text(path, "\ud800")
    with pytest.raises(FileNotFoundError), outputs.new_file(path):
        pass  # made nothing
    assert contents(tmp_path) == {"x.txt": b"old"}


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path):
    out = tmp_path / "a" / "b"
    with outputs.new_folder(out) as folder:
        (folder / "new").write_bytes(b"new")
        assert folder.parent == out.parent and not out.exists()
    assert contents(tmp_path) == {"a/b/new": b"new"}


def test_files_of_a_folder_are_written_or_copied(tmp_path):
    (tmp_path / "source").write_bytes(b"copied")
    with outputs.new_folder(tmp_path / "out") as folder:
        outputs.fill(folder, {"a": b"given", "deep/b": tmp_path / "source"})
    assert contents(tmp_path / "out") == {"a": b"given", "deep/b": b"copied"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_fails_is_taken_back_with_the_parents_made_for_it(tmp_path, error):
    kept = old_folder(tmp_path / "kept")
    for out in (tmp_path / "a" / "b", kept):
        with pytest.raises(error), outputs.new_folder(out, replace=True) as folder:
            (folder / "new").write_bytes(b"half")
            raise error
    assert contents(tmp_path) == {"kept/old": b"old"} and names(tmp_path) == ["kept"]


def test_a_folder_with_something_in_it_is_replaced_only_if_that_was_said(tmp_path):
    out = old_folder(tmp_path / "out")
    with pytest.raises(InputError, match="could not be written"):
        write(out)
    assert contents(tmp_path) == {"out/old": b"old"}
    write(out, replace=True)
    assert contents(tmp_path) == {"out/new": b"new"}
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty")
    assert contents(tmp_path) == {"out/new": b"new", "empty/new": b"new"}


def test_a_link_stays_one(tmp_path):
    target = old_folder(tmp_path / "target")
    (tmp_path / "link").symlink_to(target)
    write(tmp_path / "link", replace=True)
    assert (tmp_path / "link").is_symlink() and contents(target) == {"new": b"new"}
    assert names(tmp_path) == ["link", "target"]


@pytest.mark.parametrize("moment", [1, 2])
def test_an_interruption_while_names_are_exchanged_loses_nothing(tmp_path, monkeypatch, moment):
    out = old_folder(tmp_path / "out")
    rename, calls = os.rename, []

    def interrupted(*both):
        rename(*both)
        calls.append(both)
        if len(calls) == moment:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(out, replace=True)
    assert contents(out) == [{"old": b"old"}, {"new": b"new"}][moment - 1]
    assert names(tmp_path) == ["out"]


WRITER = """
import sys
from maxlite import outputs
with outputs.new_folder(sys.argv[1]) as folder:
    (folder / "new").write_bytes(b"half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_process_left_is_removed_but_not_what_a_living_one_writes(tmp_path):
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, out],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        left = process.stdout.readline().strip()
        write(out)
        assert names(tmp_path) == ["out", left]
        process.kill()
    write(out, replace=True)
    assert names(tmp_path) == ["out"]


def test_what_was_moved_aside_stays_while_it_is_the_only_copy(tmp_path):
    aside = old_folder(tmp_path / "out.tmp-0a1b2c3d-old")
    others = [old_folder(tmp_path / f"{name}.tmp-0a1b2c3d") for name in ("out2", "my-out")]
    write(tmp_path / "out")  # killed between two renames: there was no out
    assert contents(aside) == {"old": b"old"}
    write(tmp_path / "out", replace=True)
    assert not aside.exists() and all(other.exists() for other in others)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, kind):
    synced, out = [], tmp_path / "out"
    monkeypatch.setattr(outputs, "_sync", lambda path: synced.append((path, out.exists())))
    if kind == "file":
        outputs.write_text(out, "text")
        assert synced == [(tmp_path / "out.tmp", False)]
        return
    with outputs.new_folder(out) as folder:
        outputs.fill(folder, {"a": b"", "deep/b": b""})
    before = {path for path, there in synced if not there}
    assert before == {folder, *(folder / name for name in ("a", "deep", "deep/b"))}
    assert (tmp_path, True) in synced  # its name


@pytest.mark.parametrize("number", [*outputs.FULL, errno.EIO])
def test_what_the_disk_refuses_is_told(tmp_path, number):
    said = r"no room to write .*out" if number in outputs.FULL else "out could not be written"
    with pytest.raises(InputError, match=said), outputs.new_folder(tmp_path / "out") as folder:
        (folder / "new").write_bytes(b"half")
        raise OSError(number, os.strerror(number))
    assert not names(tmp_path)


def test_a_place_or_a_source_that_is_not_there_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/out could not be written"):
        write(tmp_path / "file" / "out")
    with (
        pytest.raises(InputError, match=r"out could not be written: .*nonesuch"),
        outputs.new_folder(tmp_path / "out") as folder,
    ):
        outputs.fill(folder, {"a": tmp_path / "nonesuch"})
    assert names(tmp_path) == ["file"]


def test_a_replacement_that_was_killed_half_way_is_finished_by_the_next(tmp_path):
    """What was there had been moved aside, and the new one had no name yet."""
    for name in ("out.work", "out.work-old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    outputs.put_in_place(tmp_path / "out.work", tmp_path / "out", replace=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "file").read_text() == "out.work"
