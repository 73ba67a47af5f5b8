"""launch/local.sh trains for real, in two processes, and is disturbed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from commands import ROOT, metrics, status, step_reached

from tools.disturbed import desk as desk_lib

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="children are read from /proc"
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> desk_lib.Desk:
    """Its folder has a space and a quote in its name."""
    here = tmp_path_factory.mktemp("desk") / "somebody's desk"
    here.mkdir()
    return desk_lib.lay(here)


def start(
    desk: desk_lib.Desk, name: str, *arguments: str, rest: Sequence[str] = ()
) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [ROOT / "launch" / "local.sh", *arguments, "--", f"--config={desk.stage}"]
    command += [
        f"--config.out={desk.here}/{name}",
        f"--config.export={desk.here}/{name}-better",
        *rest,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PATH": path}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def children(process: subprocess.Popen) -> list[int]:
    """Its processes that train."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in listed}
    return [int(pid) for pid, path in commands.items() if b"maxlite.train" in path.read_bytes()]


def when(process: subprocess.Popen, moment: Callable[[], bool]) -> None:
    until = time.monotonic() + 240
    while not moment():
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.005)


def test_two_processes_are_stopped_killed_and_come_to_their_end(desk):
    run = desk.here / "run"
    two = ("--processes=2", "--devices=1")

    process = start(desk, "run", *two)
    when(process, lambda: step_reached(run) >= 3)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    stopped = status(run)
    assert stopped["status"] == "stopped" and stopped["checkpoint"] == stopped["step"] >= 3
    assert f"stopped by a signal; {run} is stopped" in said

    process = start(desk, "run", *two)
    when(process, lambda: step_reached(run) > stopped["step"])
    first = children(process)
    assert len(first) == 2
    os.kill(first[1], signal.SIGKILL)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "starting again" in said and f"resumed from step {stopped['step']}" in said
    assert status(run)["status"] == "finished"
    assert [e["step"] for e in metrics(run) if "loss" in e] == list(range(1, desk_lib.STEPS + 1))
    assert (desk.here / "run-better" / "model.safetensors").is_file()

    log = Path(f"{run}.log").read_text()  # of both starts
    assert log.endswith(said) and log.count("model: ") == 3


def test_it_gives_up_on_a_run_that_gets_no_further(desk):
    process = start(desk, "spoilt", "--tries=2", rest=["--config.data.train=nothing.txt"])
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 1
    assert said.count("maxlite: ") == 2, said
    assert said.splitlines()[-1].startswith("local.sh: given up: ")
    assert "in 2 starts" in said and "spoilt.log" in said


def test_a_stopped_run_has_the_status_that_was_asked_for(desk):
    process = start(desk, "loading", "--stopped=75")
    when(process, lambda: bool(children(process)))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 75, said
    assert "loading is none" in said and not (desk.here / "loading").exists()
