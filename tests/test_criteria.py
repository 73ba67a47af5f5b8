"""The recipe that compares criteria of inheritance, on a tiny model."""

import json

from commands import call, run

from maxlite.hf.folder import open_folder


def test_criteria_are_compared_with_random_weights(tiny_folder, tmp_path):
    model = tiny_folder(num_hidden_layers=3)
    out = tmp_path / "out"
    keys = {"model": model, "out": out, "criteria": "l2,taylor", "seeds": 1, "texts": 30}
    keys |= {"steps": 2, "batch_size": 8, "seq_len": 16, "text_tokens": 40, "sequences": 4}
    given = ["--config=criteria.py", *(f"--config.{k}={v}" for k, v in keys.items())]
    planned = call("maxlite.recipe", *given, "--plan")
    assert planned.status == 0 and "0 of them done" in planned.out and not out.exists()
    outcome = run("maxlite.recipe", *given, devices=1)
    assert outcome.status == 0, outcome.err
    told = json.loads((out / "criteria.json").read_text())["spread"]
    assert {row["name"] for row in told} == {"l2", "taylor", "random_weights"}
    assert all(row["first_step"] == 0 and row["last_step"] == 2 for row in told)
    small = open_folder(out / "inherited" / "taylor-0").architecture
    large = open_folder(model).architecture
    assert small.num_hidden_layers == 2
    assert small.intermediate_size == -(-large.intermediate_size // 2)
