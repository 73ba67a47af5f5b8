"""The config file of a run: read as training reads it, it says the same."""

import json

import pytest

from maxlite import config as config_lib
from maxlite import flags
from maxlite.config import Config, Data, Optimizer, Source
from maxlite.report.again import config_file
from maxlite.rules import Rule
from maxlite.transforms import AddLora, Untie

CONFIGS = {
    "plain": {"data": Data(train=("a b/*.txt",))},
    "much": {
        "model": 'it\'s "here"',
        "init": (Untie(), AddLora(rank=4, targets="q_proj,lm_head", dropout=0.1)),
        "train": (Rule("input", rows="new", learning_rate=0.5), Rule("lora", name="adapters")),
        "steps": 77,
        "seed": 5,
        "data": Data(
            train=(
                Source("ko/*.jsonl", 9, "ko", "text, title", 2.5, ((10, 0.5), (20, 0))),
                Source("en.txt"),
            ),
            eval=(Source("held.txt", name="held"),),
        ),
        "optimizer": Optimizer(learning_rate=3e-5, warmup=0.0),
        "export": "out/model",
    },
    "order": {"data": Data(order="orders/one"), "train": "lora, vocabulary", "init": (AddLora(),)},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_it_gives_the_same_config(name, tmp_path):
    config = config_lib.resolve(Config(**CONFIGS[name], out="runs/it"))
    told = json.loads(json.dumps(config_lib.as_dict(config)))
    file = tmp_path / "again.py"
    file.write_text(config_file(told), "utf-8")
    again, _ = flags.parse([f"--config={file}"])
    assert json.loads(json.dumps(config_lib.as_dict(again))) == told


def test_what_is_no_more_is_left_out_and_what_is_new_has_its_default():
    config = config_lib.as_dict(config_lib.resolve(Config(data=Data(train=("a.txt",)))))
    config["gone"] = 1
    del config["optimizer"]["clip"]
    made = config_file(json.loads(json.dumps(config)))
    assert "gone" not in made and "clip" not in made
    assert made == config_file(json.loads(json.dumps(config | {"gone": 2})))
