"""Processes that find each other, or say why not; and that mean the same run, or say what differs.

The processes of this file are real.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from commands import ROOT, Outcome, call, finish, snapshot, start
from several import free_port, start_several

from maxlite import distributed
from maxlite.errors import InputError

STAGE = """
import os

from maxlite.config import Config, Data, Eval, Source


def get_config():
    os.chdir(os.environ.get("PLACE", "{here}"))
    return Config(
        model="model",
        out="{here}/run",
        steps=2,
        batch_size=4,
        seq_len=32,
        data=Data(train=(Source("xx.txt"),)),
        eval=Eval(every=0),
    )
"""


@pytest.fixture(autouse=True)
def place():
    """Goes back to where it was: the stage's file goes to the folder that it is in."""
    with contextlib.chdir("."):
        yield


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    here = tmp_path_factory.mktemp("distributed")
    make_folder(here / "model")
    shutil.copy(tiny_text / "xx.txt", here)
    (here / "stage.py").write_text(STAGE.format(here=here))
    return here


def test_processes_that_do_not_find_each_other_say_so_in_time(desk):
    def lone(index: int):
        return start(
            "maxlite.train",
            f"--config={desk}/stage.py",
            f"--coordinator=127.0.0.1:{free_port()}",
            "--processes=2",
            f"--process={index}",
            "--coordinator_timeout=2",
        )

    first, second = finish(lone(0), lone(1))
    assert "not all 2 processes have come to the coordinator at 127.0.0.1:" in first.sentence
    assert "which process 0 is, could not be reached in 2 s" in second.sentence
    assert not (desk / "run").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--processes=2"], ["--coordinator (or JAX_COORDINATOR_ADDRESS)", "--process"]),
        (["--coordinator=here:1", "--processes=2", "--process=2"], ["process '2' of '2'"]),
        (["--coordinator=here:1", "--processes=two", "--process=0"], ["'two'"]),
        (["--coordinator=here", "--processes=2", "--process=0"], ["'here' must be HOST:PORT"]),
        (["--coordinator_timeout=soon"], ["--coordinator_timeout=soon"]),
    ],
)
def test_what_is_only_half_said_is_refused(desk, flags, words):
    sentence = call("maxlite.train", f"--config={desk}/stage.py", *flags).sentence
    assert all(word in sentence for word in words), sentence


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed would be given, without launchers' variables of this machine."""
    for name in [n for n in os.environ if n.startswith(("SLURM", "OMPI", "TPU", "KUBE", "JAX_"))]:
        monkeypatch.delenv(name)
    found = []
    monkeypatch.setattr(distributed, "_tpu", lambda: False)
    monkeypatch.setattr("jax.distributed.initialize", lambda **settings: found.append(settings))
    return found


def test_a_flag_wins_over_its_variable(joined, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "there:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    distributed.initialize(process="1", coordinator_timeout="7")
    (settings,) = joined
    assert settings.pop("initialization_timeout") > 7
    assert settings == {"coordinator_address": "there:1", "num_processes": 4, "process_id": 1}


@pytest.mark.parametrize(
    ("variables", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a,b"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_STEP_NODELIST": "a"}, False),
        ({"SLURM_NTASKS": "2"}, False),  # the shell that `salloc` opens
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, False),
        ({"MEGASCALE_NUM_SLICES": "2", "TPU_WORKER_HOSTNAMES": "a"}, True),
    ],
)
def test_launchers_are_known_by_what_they_set(joined, monkeypatch, variables, several):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    distributed.initialize()
    assert bool(joined) == several
    distributed.initialize(processes="1")  # alone, whatever a launcher has set
    assert len(joined) == several


@pytest.mark.parametrize("installed", [False, True])
def test_an_indexed_kubernetes_job(joined, monkeypatch, installed):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    distributed.initialize()
    assert not joined  # any pod has this
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    if installed:
        distributed.initialize()
        assert len(joined) == 1
    else:
        with pytest.raises(InputError, match="indexed Kubernetes job"):
            distributed.initialize()


def test_the_machine_of_a_tpu_asks_jax_who_else_there_is(joined, monkeypatch):
    monkeypatch.setattr(distributed, "_tpu", lambda: True)
    distributed.initialize()
    assert len(joined) == 1
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    distributed.initialize()
    assert len(joined) == 1


# --- what processes must agree on ----------------------------------------------------------------


def disagreement(*outcomes: Outcome) -> str:
    """The sentence of process 0, which every other says too."""
    sentences = {outcome.sentence for outcome in outcomes}
    assert len(sentences) == 1
    (sentence,) = sentences
    assert sentence.startswith("the processes of this job do not agree: ")
    return sentence


def test_another_config_is_told_by_its_keys(desk):
    usual = [f"--config={desk}/stage.py"]
    before = snapshot(desk)
    changed = [*usual, "--config.batch_size=8", "--config.optimizer.clip=0.5"]
    sentence = disagreement(*finish(*start_several(usual, changed)))
    for key in ("batch_size", "optimizer.clip"):
        assert f"config key '{key}' is another in process 1 than in process 0" in sentence
    assert "seed" not in sentence and snapshot(desk) == before


def test_other_code_is_told(desk, tmp_path):
    shutil.copytree(ROOT / "maxlite", tmp_path / "maxlite")
    with (tmp_path / "maxlite" / "model" / "rope.py").open("a") as file:
        file.write("# changed\n")
    paths = {"PYTHONSAFEPATH": 1, "PYTHONPATH": tmp_path}
    usual = [f"--config={desk}/stage.py"]
    outcomes = finish(*start_several(usual, usual, variables=[{}, paths]))
    assert "maxlite's code is another in process 1" in disagreement(*outcomes)


def test_other_text_and_another_model_are_told(desk, tmp_path, make_folder):
    """Under the same names, as on the local disks of two hosts."""
    homes = [tmp_path / "a", tmp_path / "b"]
    for seed, home in enumerate(homes):
        make_folder(home / "model", seed=seed)
        shutil.copy(desk / "xx.txt", home)
    with (homes[1] / "xx.txt").open("a") as file:
        file.write("one more\n")
    usual = [f"--config={desk}/stage.py"]
    places = [{"PLACE": home} for home in homes]
    outcomes = finish(*start_several(usual, usual, variables=places))
    sentence = disagreement(*outcomes)
    for topic in ("the text, its order or tokenizer", "the model"):
        assert f"{topic} is another in process 1 than in process 0" in sentence
    assert "config.json" not in sentence and not (desk / "run").exists()
