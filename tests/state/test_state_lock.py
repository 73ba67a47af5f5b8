import json
import os
import subprocess
import sys

import fsspec
import pytest

from maxlite.errors import InputError
from maxlite.state import lock
from maxlite.storage import Url


@pytest.fixture
def folder(request, monkeypatch):
    """A run folder in memory, whose lock is renewed every tenth of a second."""
    monkeypatch.setattr(lock, "RENEWED", 0.1)
    monkeypatch.setattr(lock, "DEAD", 1.0)
    yield Url(f"memory://{request.node.name}")
    fsspec.filesystem("memory").store.clear()


def left_by(folder, **owner):
    """A lock whose owner does not renew it."""
    told = {"host": "elsewhere", "process": 1, "time": "yesterday", "token": "old", **owner}
    (folder / "lock").write_bytes(json.dumps(told).encode())


def test_one_process_at_a_time(folder):
    held = lock.hold(folder)
    with pytest.raises(InputError, match=rf"another process .* \(process {os.getpid()} on .*wait"):
        lock.hold(folder)
    held.check()
    held.release()
    assert not (folder / "lock").exists()
    lock.hold(folder).release()


def test_a_dead_owner_on_another_machine_is_waited_for(folder, capsys):
    left_by(folder)
    lock.hold(folder).release()
    assert "locked by process 1 on elsewhere, since yesterday" in capsys.readouterr().err


def test_a_dead_owner_on_this_machine_is_known_to_be(folder, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left_by(folder, host=lock.socket.gethostname(), process=ended.pid)
    lock.hold(folder).release()
    assert "waiting" not in capsys.readouterr().err


def test_a_damaged_lock_is_taken_over_like_one_of_the_dead(folder):
    (folder / "lock").write_bytes(b"{")
    lock.hold(folder).release()


def test_who_was_thought_dead_stops(folder):
    held = lock.hold(folder)
    left_by(folder, token="new")
    held._thread.join(10)  # it sees so at its next renewal, and renews no more
    with pytest.raises(InputError, match="process 1 on elsewhere, since yesterday has taken over"):
        held.check()
    held.release()
    assert json.loads((folder / "lock").read_bytes())["token"] == "new"  # it is not ours to remove


def test_on_a_disk_it_is_the_systems(tmp_path):
    held = lock.hold(tmp_path)
    with pytest.raises(InputError, match="another process is training in"):
        lock.hold(tmp_path)
    held.check()
    held.release()
    lock.hold(tmp_path).release()
