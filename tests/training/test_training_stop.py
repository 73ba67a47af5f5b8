"""Signals: noted between blocks, at once inside interruptible ones; a second Ctrl-C as usual."""

import os
import signal
import time

import pytest
from jax.experimental import multihost_utils

from maxlite.training.stop import Stop, StopSignals

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def send(number):
    os.kill(os.getpid(), number)


@BOTH
def test_elsewhere_a_signal_is_only_noted(number):
    with StopSignals() as signals:
        assert not signals.requested
        send(number)
        assert signals.requested


@BOTH
def test_an_interruptible_block_ends_at_once(number):
    passed = []
    with StopSignals() as signals, pytest.raises(Stop), signals.interruptible():
        passed.append("in")
        send(number)
        passed.append("after")
    assert passed == ["in"] and signals.requested


def test_a_sleep_is_left_at_once():
    began = time.monotonic()
    signal.signal(signal.SIGALRM, lambda *_: send(signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with StopSignals() as signals, pytest.raises(Stop), signals.interruptible():
        time.sleep(30)
    assert time.monotonic() - began < 20


def test_a_block_is_not_begun_once_a_stop_is_wanted():
    with StopSignals() as signals:
        send(signal.SIGTERM)
        with pytest.raises(Stop), signals.interruptible():
            raise AssertionError("the block was begun")


def test_after_a_block_signals_are_noted_again():
    with StopSignals() as signals:
        with signals.interruptible():
            pass
        send(signal.SIGTERM)
        assert signals.requested


@pytest.mark.parametrize("how", ["error", "stop"])
def test_after_a_block_that_failed_too(how):
    with StopSignals() as signals:
        with pytest.raises((KeyError, Stop)), signals.interruptible():
            if how == "error":
                raise KeyError
            send(signal.SIGTERM)
        send(signal.SIGTERM)  # raises nothing
        assert signals.requested


def test_cleaning_up_inside_a_block_is_not_cut_off():
    cleaned = []
    with StopSignals() as signals, pytest.raises(Stop), signals.interruptible():
        try:
            send(signal.SIGTERM)
        finally:
            send(signal.SIGTERM)
            cleaned.append(True)
    assert cleaned


def test_a_second_sigterm_does_not_cut_off_the_save():
    with StopSignals() as signals:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert signals.requested


def test_a_second_ctrl_c_interrupts():
    with StopSignals() as signals:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signals.requested


@pytest.fixture
def agreed(monkeypatch):
    """Stands for jax's service: the call that processes have agreed on, and those made so far."""
    calls, last = [], [4]

    def reached(call):
        calls.append(call)
        return call == last[0]

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
    return calls


def test_several_processes_stop_at_the_call_that_they_agree_on(agreed):
    with StopSignals(several=True) as signals:
        assert not signals.poll()
        with signals.interruptible():
            signals.check()
        with pytest.raises(Stop), signals.interruptible():
            raise AssertionError("the block was begun")
        assert signals.requested and signals.poll() and not signals.raised
    assert agreed == [0, 1, 2, 3, 4]


def test_several_processes_leave_sigterm_to_jax(agreed):
    """Ctrl-C comes to it as SIGTERM; nothing is raised within a block."""
    noted = []
    before = signal.signal(signal.SIGTERM, lambda *_: noted.append(True))
    try:
        with StopSignals(several=True) as signals, signals.interruptible():
            send(signal.SIGTERM)
            send(signal.SIGINT)
            assert noted == [True, True] and not signals.requested
            with pytest.raises(KeyboardInterrupt):
                send(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_stop_is_no_exception_that_a_library_would_catch():
    assert not issubclass(Stop, Exception)


def test_the_handlers_before_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
    with pytest.raises(KeyError), StopSignals():
        raise KeyError
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before
