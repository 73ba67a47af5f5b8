"""A watchdog ends a process that stands still, and no other."""

import subprocess
import sys
import time

from commands import ROOT

from maxlite.training.watchdog import Watchdog

PROGRAM = """
import sys, time
from pathlib import Path
from maxlite.training.watchdog import Watchdog

def stand_still():
    time.sleep(600)

with Watchdog(float(sys.argv[1]), Path(sys.argv[2])) as dog:
    for _ in range(20):
        time.sleep(0.02)
        dog.beat()
    print("went on", flush=True)
    stand_still()
"""


def test_a_process_that_stands_still_ends_and_shows_its_stacks(tmp_path):
    """The same where the file cannot be written."""
    for path in (tmp_path / "stuck.txt", tmp_path / "missing" / "stuck.txt"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "0.01", path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout) == (1, "went on\n")
        assert "in stand_still" in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("maxlite: nothing has moved for 0.0 minutes (stuck_minutes)")
        assert not path.parent.exists() or "in stand_still" in path.read_text()


def test_what_is_paused_over_or_without_a_limit_goes_on(tmp_path, monkeypatch):
    ended = []
    monkeypatch.setattr(Watchdog, "_end", lambda dog, seconds: ended.append(seconds))
    limit = 1.0  # seconds
    with Watchdog(limit / 60, tmp_path / "stuck.txt") as dog, dog.paused():
        time.sleep(2 * limit)
    time.sleep(2 * limit)  # nothing watches any more
    with Watchdog(0, tmp_path / "stuck.txt"):
        time.sleep(0.1)
    assert not ended and not list(tmp_path.iterdir())
