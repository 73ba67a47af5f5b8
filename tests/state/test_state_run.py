"""The run folder: made in one go, held by one process, continued with the config it began with."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from maxlite import config as config_lib
from maxlite.config import Config, Data, Optimizer, Source
from maxlite.errors import InputError
from maxlite.state import run as run_lib
from maxlite.state.run import GONE, MAY_DIFFER, RunFolder, check_same, create


def began(tmp_path, name="run", **changes):
    """A run folder that began with a config."""
    config = config_lib.resolve(Config(out=str(tmp_path / name), **changes))
    return create(tmp_path / name, {"config": config_lib.as_dict(config), "order": "abc"}, {}, {})


def test_what_a_new_run_holds(tmp_path):
    (tmp_path / "source.txt").write_text("from a file")
    files = {"config.json": b"{}", "a/b.txt": tmp_path / "source.txt"}
    run = create(tmp_path / "deep" / "run", {"config": {}, "order": "abc"}, files, {"x": "float32"})
    assert run_lib.is_run(run.path)
    assert (run.model / "config.json").read_bytes() == b"{}"
    assert (run.model / "a" / "b.txt").read_text() == "from a file"
    assert run.tensor_dtypes() == {"x": "float32"}
    assert run.description["order"] == "abc" and run.description["version"]
    assert run.status() == {"status": "running", "step": 0, "checkpoint": -1}
    assert os.listdir(tmp_path / "deep") == ["run"]
    assert run.path.stat().st_mode & 0o777 == 0o755
    assert RunFolder(run.path).description == run.description


def test_an_empty_folder_and_a_link_to_one_are_free(tmp_path):
    (tmp_path / "empty").mkdir()
    create(tmp_path / "empty", {}, {}, {})
    assert run_lib.is_run(tmp_path / "empty")
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    create(tmp_path / "link", {}, {}, {})
    assert run_lib.is_run(tmp_path / "there") and (tmp_path / "link").is_symlink()


def test_what_is_there_is_never_touched(tmp_path, digest):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine too")
    before = digest(tmp_path)
    for name in ("full", "file"):
        with pytest.raises(InputError, match="another out"):
            create(tmp_path / name, {}, {}, {})
        with pytest.raises(InputError, match="another out"):
            run_lib.check_free(tmp_path / name)
        with pytest.raises(InputError, match=r"run\.json"):
            RunFolder(tmp_path / name)
    assert digest(tmp_path) == before
    run_lib.check_free(tmp_path / "nothing")


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(InputError, match="could not be written"):
        create(tmp_path / "run", {}, {"x": tmp_path / "nonesuch"}, {})
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        create(tmp_path / "file" / "run", {}, {}, {})
    with pytest.raises(TypeError):
        create(tmp_path / "run", {"config": object()}, {}, {})
    assert os.listdir(tmp_path) == ["file"]


def test_two_that_make_the_same_folder(tmp_path):
    """One wins; the other is told, and nothing of it stays."""
    both, told = threading.Barrier(2), []

    def attempt():
        both.wait()
        try:
            create(tmp_path / "run", {"config": {}}, {"big": b"x" * 1000}, {})
        except InputError as e:
            told.append(str(e))

    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1
    assert os.listdir(tmp_path) == ["run"] and run_lib.is_run(tmp_path / "run")


def test_a_damaged_description_is_a_sentence(tmp_path):
    run = began(tmp_path)
    (run.path / "run.json").write_text('{"config": ')
    with pytest.raises(InputError, match=r"run\.json is damaged"):
        RunFolder(run.path)


def test_status_keeps_what_is_not_changed(tmp_path):
    run = began(tmp_path)
    run.set_status(status="running", step=3, steps=9, message="")
    run.set_status(checkpoint=2)
    status = run.status()
    assert status.pop("time")
    expected = {"status": "running", "step": 3, "steps": 9, "checkpoint": 2, "message": ""}
    assert status == expected
    assert json.loads((run.path / "status.json").read_text()).items() >= expected.items()
    assert not list(run.path.glob("*.tmp"))


def test_json_is_written_whole_or_not_at_all(tmp_path):
    run_lib.write_json(tmp_path / "x.json", {"a": "한"})
    with pytest.raises(TypeError):
        run_lib.write_json(tmp_path / "x.json", {"a": object()})
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == {"a": "한"}


HOLDER = """
import pathlib, sys
from maxlite.state.run import RunFolder
run = RunFolder(pathlib.Path(sys.argv[1]))
run.lock()
print("locked", flush=True)
sys.stdin.read()
"""


def test_only_one_process_holds_a_run(tmp_path):
    run = began(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another process"):
            run.lock()
        holder.kill()
    run.lock()  # a lock dies with its process
    with pytest.raises(InputError, match="another process"):
        RunFolder(run.path).lock()


# --- going on with the same config ---------------------------------------------------------------


def other(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    return value * 2 + 3 if isinstance(value, (int, float)) else f"{value}x"


@pytest.mark.parametrize(
    "key", [k for k, kind in config_lib.keys().items() if kind in (int, float, bool, str)]
)
def test_every_key_is_compared_but_those_that_may_differ(key, tmp_path):
    run = began(tmp_path)
    config = config_lib.resolve(Config())
    config_lib.put(config, key, other(config_lib.get(config, key)))
    allowed = key.startswith(MAY_DIFFER) or key == "out"
    if allowed:
        check_same(run, config, 5)
        return
    old, new = config_lib.get(Config(), key), config_lib.get(config, key)
    with pytest.raises(InputError) as caught:
        check_same(run, config, 5)
    assert f"{key} was {old!r} and is now {new!r}" in str(caught.value)


def test_keys_that_are_gone_stop_no_run_of_an_earlier_version(tmp_path):
    run = began(tmp_path)
    assert not set(GONE) & config_lib.keys().keys()
    for key in GONE:
        *above, last = key.split(".")
        inner = run.description["config"]
        for name in above:
            inner = inner[name]
        inner[last] = "as it was then"
    run_lib.write_json(run.path / "run.json", run.description)
    again = RunFolder(run.path)
    check_same(again, config_lib.resolve(Config()), 5)
    assert not set(GONE) & run_lib.essence(again.description["config"]).keys()
    run.description["config"]["once"] = 1  # any other would be another run
    with pytest.raises(InputError, match="once was 1 and is now None"):
        check_same(run, config_lib.resolve(Config()), 5)


def test_what_may_differ_is_what_the_contract_says():
    known = list(config_lib.keys())
    assert {k for k in known if k.startswith(MAY_DIFFER)} == {
        *(k for k in known if k.split(".")[0] in ("checkpoint", "eval", "log")),
        *("export", "export_card", "export_dtype", "mesh", "attention", "remat", "accumulate"),
        "stuck_minutes",
    }


def test_every_difference_is_listed_with_both_values(tmp_path):
    run = began(tmp_path)
    config = Config(seed=3, seq_len=64, optimizer=Optimizer(learning_rate=0.5), mesh="data=-1")
    with pytest.raises(InputError) as caught:
        check_same(run, config_lib.resolve(config), 0)
    text = str(caught.value)
    for part in (
        "seed was 0 and is now 3",
        "seq_len was 512 and is now 64",
        "0.0003 and is now 0.5",
    ):
        assert part in text
    assert "mesh" not in text and "\n" not in text


def test_sources_are_compared(tmp_path):
    run = began(tmp_path, data=Data(train=("a.txt",)))
    for same in (("a.txt",), ("elsewhere/a.tokens",)):  # which its order's fingerprint decides
        check_same(run, config_lib.resolve(Config(data=Data(train=same))), 0)
    source = Source("a.txt")
    for other in (
        (source, source),
        (replace(source, weight=2.0),),
        (replace(source, epochs=1.0),),
        (replace(source, name="b"),),
        (replace(source, field="b"),),
        (replace(source, later=((3, 2.0),)),),
        (),
    ):
        with pytest.raises(InputError, match=r"data\.train was .* and is now "):
            check_same(run, config_lib.resolve(Config(data=Data(train=other))), 0)


def test_an_order_may_have_moved(tmp_path):
    run = began(tmp_path, data=Data(order="a.order"))
    check_same(run, config_lib.resolve(Config(data=Data(order="elsewhere/a.order"))), 0)
    with pytest.raises(InputError, match=r"data\.order was 'a\.order' and is now ''"):
        check_same(run, config_lib.resolve(Config(data=Data(train=("a.txt",)))), 0)


# (schedule, warmup, steps before, steps now, at step, allowed)
LENGTHS = [
    ("constant", 10, 100, 200, 50, True),
    ("constant", 10, 100, 200, 5, True),  # a warm-up of so many steps is the same
    ("constant", 10, 100, 60, 50, True),
    ("constant", 10, 100, 40, 50, False),  # that is in the past
    ("constant", 0.1, 100, 200, 50, True),  # both warm-ups are over
    ("constant", 0.1, 100, 200, 100, True),  # a finished run goes on
    ("constant", 0.1, 100, 200, 15, False),  # the new warm-up would not be over
    ("constant", 0.1, 100, 200, 5, False),
    ("cosine", 10, 100, 200, 5, True),  # before the decay began
    ("cosine", 10, 100, 200, 10, True),
    ("cosine", 10, 100, 200, 11, False),
    ("cosine", 0.0, 100, 200, 1, False),
    ("linear", 10, 100, 200, 50, False),
    ("cosine", 0.1, 100, 200, 0, True),  # nothing has been trained
    ("linear", 0.1, 100, 50, 0, True),
]


@pytest.mark.parametrize(("schedule", "warmup", "before", "now", "step", "allowed"), LENGTHS)
def test_when_steps_may_change(schedule, warmup, before, now, step, allowed, tmp_path):
    optimizer = Optimizer(schedule=schedule, warmup=warmup)
    run = began(tmp_path, steps=before, optimizer=optimizer)
    config = config_lib.resolve(Config(steps=now, optimizer=optimizer))
    if allowed:
        check_same(run, config, step)
        return
    with pytest.raises(InputError, match=f"steps was {before} and is now {now}"):
        check_same(run, config, step)


def test_where_steps_may_change_the_rate_does_not_jump():
    from maxlite.training.optim import schedule as rates

    for kind, warmup, before, now, step, allowed in LENGTHS:
        optimizer = Optimizer(schedule=kind, warmup=warmup)
        old, new = (rates(Config(steps=n, optimizer=optimizer)) for n in (before, now))
        same = step == 0 or float(old(step - 1)) == float(new(step - 1))
        assert same or not allowed, (kind, warmup, before, now, step)


def test_a_new_length_is_what_the_next_start_compares_with(tmp_path):
    optimizer = Optimizer(schedule="cosine", warmup=10)
    run = began(tmp_path, steps=100, optimizer=optimizer)
    longer = config_lib.resolve(Config(steps=200, optimizer=optimizer))
    check_same(run, longer, 5)
    run.set_steps(200)
    again = RunFolder(run.path)
    check_same(again, longer, 150)
    with pytest.raises(InputError, match="steps was 200 and is now 100"):
        check_same(again, config_lib.resolve(Config(steps=100, optimizer=optimizer)), 50)
