"""Clusters: a Slurm that is played by shell scripts, and Ray where it is installed."""

import json
import os
import stat
import subprocess

import pytest

pytest.importorskip("datatrove")

from commands import call

# sbatch runs a job array at once, as a queue with nothing else in it would.
SCRIPTS = {
    "sbatch": """
        for argument; do case "$argument" in
            --export=*) offset="${argument##*RUN_OFFSET=}" ;;
            --dependency=*) echo "${argument#*:}" >>"$FAKE/waited" ;;
            --wrap=*) echo "${argument#--wrap=}" >"$FAKE/last" ;;
            -*) ;;
            *) script="$argument" ;;
        esac; done
        count=$(($(cat "$FAKE/count" 2>/dev/null || echo 0) + 1)); echo $count >"$FAKE/count"
        echo "Submitted batch job $count"
        [ -n "$script" ] || exit 0  # what is last the test starts itself
        cp "$script" "$FAKE/job-$count"
        last=$(sed -nE 's/^#SBATCH --array=0-([0-9]+).*/\\1/p' "$script")
        for i in $(seq 0 "$last"); do
            export SLURM_ARRAY_TASK_ID=$i RUN_OFFSET="${offset:-0}" SLURM_NODELIST=here
            bash "$script" >"$FAKE/log-$count-$i" 2>&1 || echo "$count $i" >>"$FAKE/failed"
        done
    """,
    "srun": 'shift 3; exec "$@"',  # -l -n 1
    "scontrol": "echo here",
    "squeue": "cat $FAKE/queue",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    folder = tmp_path / "cluster"
    folder.mkdir()
    for name, text in SCRIPTS.items():
        path = folder / name
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (folder / "queue").touch()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(folder))
    return folder


CONFIG = """
from dataclasses import dataclass

from maxlite.corpus import Change, Cleaning, Length, NearDuplicates, Sample

@dataclass
class Counted(Change):  # no other machine can import it
    word: str = "길다"

    def change(self, text):
        return f"{text} {text.count(self.word)}"

def get_config():
    steps = (Counted(), Length(min_chars=20), NearDuplicates(), Sample(share=0.5))
    return Cleaning(steps=steps, shard_mb=1, workers=1)
"""


@pytest.fixture
def cleaned(tmp_path):
    """Cleans some text into a folder; gives how that ended."""
    lines = [f"문서 {i % 7000} 번은 여기에 있고 {'길다 ' * (i % 9)}" for i in range(20000)]
    (tmp_path / "raw.txt").write_text("\n".join(lines), "utf-8")
    (tmp_path / "config.py").write_text(CONFIG)
    where = [f"--config={tmp_path}/config.py", f"--config.text={tmp_path}/raw.txt"]

    def run(out, executor, *more):
        given = (f"--config.out={tmp_path / out}", f"--config.executor={executor}")
        return call("tools.clean_corpus", *where, *given, *more)

    return run


def shards(folder):
    import zstandard

    return [
        (path.name, [json.loads(line)["text"] for line in zstandard.open(path, "rt")])
        for path in sorted(folder.glob("*.zst"))
    ]


def test_slurm_gives_what_this_machine_gives(tmp_path, cluster, cleaned):
    assert cleaned("here", "local").status == 0
    partition = ("--config.slurm.partition=cpu", "--config.slurm.memory_gb=3")
    submitted = cleaned("there", "slurm", *partition)
    assert "submitted;" in submitted.err and not submitted.out
    assert not (cluster / "failed").exists(), (cluster / "failed").read_text()
    subprocess.run(["bash", cluster / "last"], check=True, capture_output=True)
    assert shards(tmp_path / "there") == shards(tmp_path / "here")
    assert len(shards(tmp_path / "here")) == 2
    said = [json.loads((tmp_path / n / "funnel.json").read_text()) for n in ("here", "there")]
    counted = [[{**row, "seconds": 0} for row in one["steps"]] for one in said]
    assert counted[0] == counted[1]
    assert not (tmp_path / "there.work").exists()
    script = (cluster / "job-1").read_text()
    assert "--partition=cpu" in script and "--mem-per-cpu=3G" in script
    # Each pass waits for the one before, and what puts the result in its place for the last.
    passes = int((cluster / "count").read_text())
    assert (cluster / "waited").read_text().split() == [str(i) for i in range(1, passes)]


def test_slurm_is_not_asked_twice(cluster, cleaned):
    (cluster / "sbatch").write_text('#!/bin/bash\necho "Submitted batch job 77"\n')
    assert cleaned("there", "slurm", "--config.slurm.partition=cpu").status == 0
    (cluster / "queue").write_text("77 cpu clean\n")
    again = cleaned("there", "slurm", "--config.slurm.partition=cpu")
    assert again.sentence == "this cleaning is in Slurm's queue already: its last job is 77"


def test_slurm_without_its_command_or_partition_is_refused(cluster, cleaned):
    said = cleaned("there", "slurm").sentence
    assert said.endswith("needs a partition; give --config.slurm.partition=NAME")
    (cluster / "sbatch").write_text("#!/bin/bash\necho no such partition >&2\nexit 1\n")
    said = cleaned("there", "slurm", "--config.slurm.partition=cpu").sentence
    assert said.startswith("sbatch refuses: ")
    (cluster / "sbatch").unlink()
    said = cleaned("there", "slurm", "--config.slurm.partition=cpu").sentence
    assert "needs the command sbatch" in said


def test_ray_gives_what_this_machine_gives(tmp_path, cleaned):
    pytest.importorskip("ray")
    assert cleaned("here", "local").status == cleaned("there", "ray").status == 0
    assert shards(tmp_path / "there") == shards(tmp_path / "here")
