"""Figures of stages: what trained of each group, the mixture over the steps, and settings."""

import dataclasses
import json

import numpy as np
import pytest
from past_runs import past_run

from maxlite.data.orders import Kept, Listed, OrderFile, write_order
from maxlite.errors import InputError
from maxlite.mixture import Source
from maxlite.report import stages

BASE = {"origin": "gone", "step": -1, "identity": {}, "steps": []}
NOTE = {"format": 1, "vocabulary": {"base_rows": 40, "rows": 50}}
LORA = {"rank": 2, "alpha": 4.0, "targets": "q_proj", "tables": []}


def run(folder, trained=(), note=NOTE, **config):
    """A run of 3 layers of width 16 and 50 rows, 10 of them new, of which these leaves trained."""
    past_run(folder, 3, trained=list(trained), base=BASE if trained else None)
    (folder / "model" / "maxlite.json").write_text(json.dumps(note))
    said = json.loads((folder / "run.json").read_text())
    said["config"] |= config
    (folder / "run.json").write_text(json.dumps(said))
    return str(folder)


def groups(stage):
    return {f"{g['group']} {g['part']}".strip(): g for g in stage["groups"]}


def test_shares_of_groups_and_layers(tmp_path):
    layers = ["model.layers.mlp.up_proj.weight[1:2]", "model.layers.input_layernorm.weight"]
    trained = ["model.embed_tokens.weight[40:50]", *layers, "lm_head.weight[30:50]"]
    (stage,) = stages.figures([run(tmp_path / "one", trained)])
    found = groups(stage)
    assert [*found] == ["input rows old", "input rows new", "layers", "norm", "output rows old",
                        "output rows new"]  # fmt: skip
    assert found["input rows old"]["shares"] == [0] and found["input rows new"]["shares"] == [1]
    assert found["output rows old"]["shares"] == [10 / 40]
    assert found["output rows new"]["trained"] == 10 * 16
    layer = found["layers"]["parameters"] / 3
    expected = [16 / layer, (16 + 48 * 16) / layer, 16 / layer]
    assert found["layers"]["shares"] == pytest.approx(expected)
    total = 10 * 16 + 20 * 16 + 48 * 16 + 3 * 16
    assert stage["trained"] == total == sum(g["trained"] for g in stage["groups"])
    assert stage["parameters"] == sum(g["parameters"] for g in stage["groups"])
    assert stage["optimizer_gib"] == 8 * total / 2**30


def test_adapters_are_a_group_of_their_own_and_moments_may_be_halved(tmp_path):
    half = {"optimizer": {"learning_rate": 1e-3, "bfloat16": "moments", "warmup": 0.0}}
    adapters = [f"model.layers.self_attn.q_proj.lora_{x}.weight" for x in "AB"]
    (stage,) = stages.figures([run(tmp_path / "one", adapters, NOTE | {"lora": LORA}, **half)])
    found = groups(stage)
    assert found["adapters"]["shares"] == [1] and found["layers"]["shares"] == [0, 0, 0]
    assert stage["trained"] == found["adapters"]["parameters"] == 3 * 2 * (16 + 16)
    assert stage["optimizer_gib"] == 4 * stage["trained"] / 2**30


def test_everything_and_a_tied_table(tmp_path):
    folder = run(tmp_path / "one", note={"format": 1})
    file = tmp_path / "one" / "model" / "config.json"
    tied = json.loads(file.read_text()) | {"tie_word_embeddings": True}
    file.write_text(json.dumps(tied))
    (stage,) = stages.figures([folder])
    assert [*groups(stage)] == ["tied rows", "layers", "norm"]
    assert all(set(g["shares"]) == {1} for g in stage["groups"])


def test_stages_follow_one_another(tmp_path):
    first, second = stages.figures([run(tmp_path / "a"), run(tmp_path / "b")])
    assert (first["began"], second["began"]) == (0, first["tokens"]) and first["tokens"] > 0
    # 5 steps each at 500, 1000, 1500 and 2000 tokens a second
    room = first["tokens"] / 20
    assert first["seconds"] == pytest.approx(5 * room * (1 / 500 + 1 / 1000 + 1 / 1500 + 1 / 2000))
    assert first["samples"] == [[10, "x"], [20, "x"]] and first["mfu"] is None


def order(*sources, kept=None):
    listed = tuple(Listed(source, "content") for source in sources)
    return OrderFile(listed, "tokenizer", 1, 2, 0, 8, kept=kept)


SOURCES = (Source("ko/*", 3.0, "ko", later=((5, 0.0), (100, 9.0))), Source("en", 1.0, "en"))


def test_what_was_asked_for_is_taken_over_the_steps(tmp_path):
    folder = run(tmp_path / "one")
    write_order(tmp_path / "one" / "order", order(*SOURCES))
    (stage,) = stages.figures([folder])
    ko, en = stage["mixture"]
    assert ko["asked"] == pytest.approx(5 / 20 * 3 / 4)  # and nothing from step 5 on
    assert en["asked"] == pytest.approx(1 - ko["asked"]) and en["read"] is None
    line = {"step": 20, "data/ko/share": 0.25, "data/ko/epochs": 1.5}
    file = tmp_path / "one" / "metrics.jsonl"
    whole = file.read_text().rpartition("\n")[0]
    file.write_text(f"{whole}\n{json.dumps(line)}\n")
    (stage,) = stages.figures([folder])
    assert stage["mixture"][0] == {"source": "ko", "asked": ko["asked"], "read": 0.25,
                                   "epochs": 1.5}  # fmt: skip


def test_drawn_sequences_have_shares_of_their_own(tmp_path):
    folder = run(tmp_path / "one")
    plain = tuple(dataclasses.replace(source, later=()) for source in SOURCES)
    kept = Kept(np.arange(3), 1)
    write_order(tmp_path / "one" / "order", order(*plain, kept=kept))
    (stage,) = stages.figures([folder])
    assert [one["asked"] for one in stage["mixture"]] == [None, None]


def test_settings_that_differ_and_those_that_do_not(tmp_path):
    found = stages.figures([run(tmp_path / "a", model="here"), run(tmp_path / "b", seed=7)])
    same, different = stages.settings(found)
    assert different["seed"] == ["0", "7"] and different["model"] == ['"here"', '""']
    assert different["architecture.hidden_size"] == ["", "16"]  # a model was named: it said nothing
    assert same["batch_size"] == str(found[0]["settings"]["batch_size"]) and "out" not in same
    assert same["model's depth"] == "3" and not same.keys() & different.keys()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a run folder"):
        stages.figures([str(tmp_path)])
