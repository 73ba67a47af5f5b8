"""Clusters: a Slurm that is played by shell scripts, and Ray where it is installed."""

import json
import os
import stat

import pytest

pytest.importorskip("datatrove")

from maxlite.corpus.filters import Length, Sample
from maxlite.corpus.near import NearDuplicates

from maxlite.corpus.clean import clean
from maxlite.corpus.cleaning import Cleaning, Slurm, resolve
from maxlite.errors import InputError

# sbatch runs a job array at once, as a queue with nothing else in it would.
SCRIPTS = {
    "sbatch": """
        for argument; do case "$argument" in
            --export=*) offset="${argument##*RUN_OFFSET=}" ;;
            --dependency=*) echo "${argument#*:}" >>"$FAKE/waited" ;;
            *) script="$argument" ;;
        esac; done
        count=$(($(cat "$FAKE/count" 2>/dev/null || echo 0) + 1)); echo $count >"$FAKE/count"
        cp "$script" "$FAKE/job-$count"
        last=$(sed -nE 's/^#SBATCH --array=0-([0-9]+).*/\\1/p' "$script")
        for i in $(seq 0 "$last"); do
            export SLURM_ARRAY_TASK_ID=$i RUN_OFFSET="${offset:-0}" SLURM_NODELIST=here
            bash "$script" >"$FAKE/log-$count-$i" 2>&1 || echo "$count $i" >>"$FAKE/failed"
        done
        echo "Submitted batch job $count"
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


def config(tmp_path, out, executor, **settings):
    lines = [f"문서 {i % 700} 번은 여기에 있고 {'길다 ' * (i % 9)}" for i in range(1500)]
    (tmp_path / "raw.txt").write_text("\n".join(lines), "utf-8")
    steps = (Length(min_chars=18), NearDuplicates(), Sample(share=0.5))
    given = {"text": str(tmp_path / "raw.txt"), "out": str(tmp_path / out), "steps": steps}
    return resolve(Cleaning(**given, executor=executor, **settings))


def shards(folder):
    import zstandard

    return [
        (path.name, [json.loads(line)["text"] for line in zstandard.open(path, "rt")])
        for path in sorted(folder.glob("*.zst"))
    ]


@pytest.fixture
def two_shards(monkeypatch):
    monkeypatch.setattr("maxlite.corpus.cleaning._SMALLEST", 1 << 16)


def test_slurm_gives_what_this_machine_gives(tmp_path, cluster, two_shards):
    clean(config(tmp_path, "here", "local", workers=1))
    submitted = config(tmp_path, "there", "slurm", slurm=Slurm(partition="cpu", memory_gb=3))
    assert clean(submitted) is None
    assert not (cluster / "failed").exists(), (cluster / "log-1-0").read_text()
    assert shards(tmp_path / "there") == shards(tmp_path / "here") != []
    said = [json.loads((tmp_path / n / "funnel.json").read_text()) for n in ("here", "there")]
    counted = [[{**row, "seconds": 0} for row in one["steps"]] for one in said]
    assert counted[0] == counted[1]
    assert not (tmp_path / "there.work").exists()
    script = (cluster / "job-1").read_text()
    assert "--partition=cpu" in script and "--mem-per-cpu=3G" in script
    assert (cluster / "waited").exists()  # each pass for the one before


def test_slurm_is_not_asked_twice(tmp_path, cluster, two_shards):
    sbatch = cluster / "sbatch"
    sbatch.write_text('#!/bin/bash\necho "Submitted batch job 77"\n')
    queued = config(tmp_path, "there", "slurm", slurm=Slurm(partition="cpu"))
    assert clean(queued) is None
    (cluster / "queue").write_text("77 cpu clean\n")
    with pytest.raises(InputError, match="in Slurm's queue already: its last job is 77"):
        clean(queued)


def test_slurm_without_its_command_or_partition_is_refused(tmp_path, cluster, monkeypatch):
    with pytest.raises(InputError, match=r"needs a partition; give --config\.slurm\.partition"):
        clean(config(tmp_path, "there", "slurm"))
    (cluster / "sbatch").unlink()
    with pytest.raises(InputError, match="needs the command sbatch"):
        clean(config(tmp_path, "there", "slurm", slurm=Slurm(partition="cpu")))


def test_ray_gives_what_this_machine_gives(tmp_path, two_shards):
    pytest.importorskip("ray")
    clean(config(tmp_path, "here", "local", workers=1))
    clean(config(tmp_path, "there", "ray", workers=1))
    assert shards(tmp_path / "there") == shards(tmp_path / "here") != []
