"""Which flags XLA gets, where, and that the user's own stay."""

import os
import subprocess
import sys

import pytest
from commands import ROOT

from maxlite import xla


@pytest.fixture
def gpu(monkeypatch):
    """A machine with jax's plugin for NVIDIA GPUs."""
    monkeypatch.setattr(xla.importlib.util, "find_spec", lambda name: name == "jax_cuda13_plugin")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setenv("XLA_FLAGS", "")


def flags(deterministic=False):
    xla.set_flags(deterministic)
    return os.environ["XLA_FLAGS"].split()


def test_a_gpu_gets_the_table_once(gpu):
    expected = [f"{flag}={value}" for flag, value in xla.GPU.items()]
    assert flags() == expected == flags()
    assert not xla.deterministic()


def test_deterministic_is_a_flag_of_its_own(gpu):
    assert f"{xla.DETERMINISTIC}=true" in flags(deterministic=True)
    assert xla.deterministic()


@pytest.mark.parametrize("value", ["false", "0"])
def test_what_the_user_has_set_stays(gpu, monkeypatch, value):
    name = next(iter(xla.GPU))
    given = [f"{name}={value}", "--xla_other=1", f"{xla.DETERMINISTIC}={value}"]
    monkeypatch.setenv("XLA_FLAGS", " ".join(given))
    assert flags(deterministic=True)[:3] == given
    assert [f.partition("=")[0] for f in flags()].count(name) == 1
    assert not xla.deterministic()


@pytest.mark.parametrize("platforms", ["cpu", "tpu", "tpu,cpu"])
def test_other_platforms_get_nothing(gpu, monkeypatch, platforms):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert flags(deterministic=True) == []


def test_xla_knows_every_flag():
    """It ends a process that names one which it does not know."""
    every = " ".join(f"{flag}=true" for flag in [*xla.GPU, xla.DETERMINISTIC])
    outcome = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": every},
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 0, outcome.stderr[-500:]
