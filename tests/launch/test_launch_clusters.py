"""What starts jobs on clusters, with commands on the PATH that play Google's cloud and SLURM."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = ("local.sh", "tpu_vm.sh", "slurm.sbatch")
TPU = ("--name=mine", "--zone=us-east5-a", "--type=v6e-16")
JOB = ("--config=continue.py", "--config.out=gs://bucket/a run")

# Both play one line of a file after another, and its last for ever.
PLAY = r"""#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$PLAY/calls"
next() { head -n 1 "$PLAY/$1"; [ "$(wc -l <"$PLAY/$1")" -le 1 ] || sed -i 1d "$PLAY/$1"; }
"""
GCLOUD = (
    PLAY
    + r"""
case "$*" in
  *" describe "*)
    state="$(next states)"
    case "$state" in
      *NOT_FOUND* | *denied*) echo "$state" >&2 && exit 1 ;;
      *) echo "$state" ;;
    esac
    ;;
  *run_status.py*) next stands ;;
  *pkill*) touch "$PLAY/asked" ;;
  *maxlite.train*)
    code="$(next trains)"
    [ "$code" != waits ] || { while [ ! -e "$PLAY/asked" ]; do /bin/sleep 0.05; done; code=0; }
    exit "$code"
    ;;
esac
"""
)
SRUN = (
    PLAY
    + r"""
out="$(dirname "$PLAY")/run"
mkdir -p "$out"
now() { printf '{"status": "%s", "checkpoint": %s}' "$1" "$2" >"$out/status.json"; }
case "$(next trains)" in
  waits) trap 'now stopped 10; exit 0' TERM; now running -1; while true; do /bin/sleep 0.05; done ;;
  fails) now running 5; exit 137 ;;
  finishes) now finished 20 ;;
esac
"""
)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """play(name=lines): what the played commands do, line after line; gives the folder."""
    folder, path = tmp_path / "play", tmp_path / "bin"
    folder.mkdir()
    path.mkdir()
    for name, body in {
        "gcloud": GCLOUD,
        "srun": SRUN,
        "scontrol": PLAY,
        "sleep": "#!/bin/sh\nexec /bin/sleep 0.02\n",
    }.items():
        (path / name).write_text(body)
        (path / name).chmod(0o755)
    here = Path(sys.executable).parent
    monkeypatch.setenv("PATH", os.pathsep.join([str(path), str(here), os.environ["PATH"]]))
    monkeypatch.setenv("PLAY", str(folder))
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def write(**lines: list[str]) -> Path:
        for name, each in lines.items():
            (folder / name).write_text("\n".join(each) + "\n")
        return folder

    return write


def launch(script: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(LAUNCH / script), *arguments], capture_output=True, text=True, timeout=60
    )


def calls(folder: Path) -> list[str]:
    """The kinds of commands that were called, in order."""
    kinds = "describe|create|delete|scp|tar -xzf|pkill|run_status|maxlite.train|requeue|srun"
    lines = re.split(r"^(?=gcloud |srun |scontrol )", (folder / "calls").read_text(), flags=re.M)
    return [re.search(kinds, line)[0] for line in lines if line]


# --- what they have in common --------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_bad_input(script, play):
    text = (LAUNCH / script).read_text()
    shown = launch(script, "--help")
    assert shown.returncode == 0 and not shown.stderr
    for flag in re.findall(r"^    (--\w+)=?\*?\)", text, re.M):
        assert flag in shown.stdout, flag
    given = TPU if script == "tpu_vm.sh" else ()
    for arguments, words in ((("--stray",), "'--stray'"), (("--tries=0",), "--tries=0")):
        refused = launch(script, *given, *arguments, "--", *JOB)
        assert refused.returncode == 1 and not refused.stdout
        assert words in refused.stderr and len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", ["local.sh", "slurm.sbatch"])
def test_a_config_is_checked_before_anything_starts(script, play):
    for arguments, words in (
        (("--config=nowhere.py",), "nowhere.py"),
        (("--config=continue.py", "--config.out=run", "--config.stepps=3"), "steps"),
        (("--config=continue.py",), "'out'"),
    ):
        refused = launch(script, "--", *arguments)
        assert refused.returncode == 1 and not refused.stdout
        assert words in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert not list(Path.cwd().glob("*.log"))


def test_shellcheck_finds_nothing():
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=beside)
    if not shellcheck:
        pytest.skip("shellcheck is not installed")
    scripts = [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch"), *LAUNCH.glob("*/*.sh")]
    done = subprocess.run(
        [shellcheck, "-x", *map(str, scripts)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_local_prints_what_it_would_start(play):
    arguments = ("--config=continue.py", "--config.out=it's here")
    shown = launch("local.sh", "--processes=2", "--devices=4", "--dry_run", "--", *arguments)
    first, second = shown.stdout.splitlines()
    assert first == (
        "env XLA_FLAGS="
        f"'{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4' "
        "JAX_COORDINATOR_ADDRESS=127.0.0.1:PORT JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=0 "
        r"python -m maxlite.train --config=continue.py '--config.out=it'\''s here'"
    ).replace(f"XLA_FLAGS='{os.environ['XLA_FLAGS']} ", f"'XLA_FLAGS={os.environ['XLA_FLAGS']} ")
    assert second == first.replace("PROCESS_ID=0", "PROCESS_ID=1")
    one = launch("local.sh", "--dry_run", "--", *arguments).stdout
    assert one == first[first.index("python") :] + "\n"
    assert not list(Path.cwd().glob("*.log"))


# --- a TPU slice ---------------------------------------------------------------------------------


def test_tpu_prints_its_commands_and_runs_none(play):
    folder = play()
    shown = launch("tpu_vm.sh", *TPU, "--project=p", "--spot", "--delete", "--dry_run", "--", *JOB)
    assert shown.returncode == 0 and not shown.stderr
    assert not (folder / "calls").exists()
    commands = re.split(r"^(?=gcloud )", shown.stdout, flags=re.M)[1:]
    assert all(c.endswith(" --zone=us-east5-a --project=p --quiet\n") for c in commands)
    assert commands[1].startswith(
        "gcloud compute tpus queued-resources create mine --node-id=mine "
        "--accelerator-type=v6e-16 --runtime-version=v2-alpha-tpuv6e --spot "
    )
    assert r"'\''--config.out=gs://bucket/a run'\''" in commands[5]
    assert len(commands) == 8 and " delete mine --force " in commands[7]


def test_a_preempted_slice_is_asked_for_again(play):
    folder = play(
        states=["ERROR: NOT_FOUND: mine", "WAITING_FOR_RESOURCES", "ACTIVE"]
        + ["SUSPENDING", "SUSPENDING", "SUSPENDED", "NOT_FOUND", "ACTIVE"],
        trains=["255", "0"],
        stands=["running 10 gs://bucket/a run", "finished 20 gs://bucket/a run"],
    )
    done = launch("tpu_vm.sh", *TPU, "--tries=1", "--delete", "--", *JOB)
    assert done.returncode == 0, done.stderr
    once = ["scp", "tar -xzf", "pkill", "maxlite.train"]
    assert calls(folder) == [
        *("describe", "create", "describe", "describe"), *once, "describe", "run_status",
        *("describe", "describe", "delete", "describe", "create", "describe"), *once, "run_status",
        "delete",
    ]  # fmt: skip
    assert "mine is WAITING_FOR_RESOURCES: waiting" in done.stdout
    assert Path("mine.log").read_text() == done.stdout


def test_a_job_that_fails_on_a_slice_is_given_up(play):
    folder = play(states=["ACTIVE"], trains=["1"], stands=["failed 10 gs://bucket/a run"])
    done = launch("tpu_vm.sh", *TPU, "--tries=2", "--", *JOB)
    assert done.returncode == 1
    assert calls(folder).count("maxlite.train") == 3  # the first came to checkpoint 10
    assert calls(folder).count("scp") == 1
    assert "given up: gs://bucket/a run got no further than checkpoint 10" in done.stdout


def test_a_signal_is_passed_on_to_the_slice(play):
    folder = play(states=["ACTIVE"], trains=["waits"], stands=["stopped 7 gs://bucket/a run"])
    process = subprocess.Popen(
        [str(LAUNCH / "tpu_vm.sh"), *TPU, "--", *JOB], text=True, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 60
    while "maxlite.train" not in (calls(folder) if (folder / "calls").exists() else ()):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    (folder / "asked").unlink()  # what settles the workers before a start asks, too
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "is stopped, its last checkpoint is 7" in said and "give it back with" in said


def test_what_gcloud_refuses_is_told(play):
    play(states=["ERROR: permission denied"], trains=["0"], stands=["none -1 x"])
    done = launch("tpu_vm.sh", *TPU, "--", *JOB)
    assert done.returncode == 1
    assert "gcloud cannot tell of mine: ERROR: permission denied" in done.stdout
    assert "--version" in launch("tpu_vm.sh", *TPU[:2], "--type=v9-1", "--", *JOB).stderr


# --- SLURM ---------------------------------------------------------------------------------------


def test_slurm_prints_what_the_job_would_start(play, monkeypatch):
    folder = play()
    arguments = ("--dry_run", "--", "--config=continue.py", "--config.out=a run")
    command = (
        "srun --kill-on-bad-exit=1 python -m maxlite.train --config=continue.py "
        "'--config.out=a run'\n"
    )
    assert launch("slurm.sbatch", *arguments).stdout == command
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
    shown = launch("slurm.sbatch", *arguments).stdout
    assert shown == f"env JAX_LOCAL_DEVICE_IDS=0,1,2,3 {command}"
    assert not (folder / "calls").exists()
    assert "sbatch" in launch("slurm.sbatch", *arguments[1:]).stderr


def test_slurm_starts_again_and_ends_when_the_run_does(play, monkeypatch):
    folder = play(trains=["fails", "finishes"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    done = launch("slurm.sbatch", "--", "--config=continue.py", "--config.out=run")
    assert done.returncode == 0, done.stderr
    assert calls(folder) == ["srun", "srun"]
    assert "ended with status 137; run is running, its last checkpoint is 5" in done.stderr


@pytest.mark.parametrize(("number", "requeued"), [("SIGUSR1", True), ("SIGTERM", False)])
def test_slurm_saves_before_its_time_is_over(play, tmp_path, monkeypatch, number, requeued):
    """USR1 is its own notice; TERM comes of scancel, too."""
    folder = play(trains=["waits"])
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    command = [str(LAUNCH / "slurm.sbatch"), "--", "--config=continue.py", "--config.out=run"]
    process = subprocess.Popen(command, text=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "run" / "status.json").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.Signals[number])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "stopped"
    assert calls(folder) == ["srun", *["requeue"] * requeued]


# --- Kubernetes and containers -------------------------------------------------------------------


def test_gke_starts_the_same_command_on_every_machine(play):
    job_set = yaml.safe_load((LAUNCH / "gke.yaml").read_text())
    (job,) = (each["template"]["spec"] for each in job_set["spec"]["replicatedJobs"])
    assert job["parallelism"] == job["completions"] and job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # or Kubernetes refuses the podFailurePolicy
    (container,) = pod["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    (saved,) = (r["onExitCodes"] for r in job["podFailurePolicy"]["rules"] if "onExitCodes" in r)
    assert f"--stopped={saved['values'][0]}" in container["args"]
    assert saved["containerName"] == container["name"]
    arguments = [argument.replace("gs://", "") for argument in container["args"]]
    shown = launch("local.sh", "--dry_run", *arguments)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("python -m maxlite.train --config=continue.py ")


@pytest.mark.parametrize("kind", ["cpu", "cuda", "tpu"])
def test_containers_hold_what_is_locked(kind):
    lines = (LAUNCH / "containers" / f"{kind}.Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied == ["requirements/py311.txt", "."]
    assert all((ROOT / name).exists() for name in copied)
    assert any("-r requirements/py311.txt" in line for line in lines)
    assert lines[-1] == 'ENTRYPOINT ["launch/local.sh"]'
