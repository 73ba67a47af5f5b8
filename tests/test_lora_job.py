"""Adapters from a config to a run, and from the run to a folder, generation and evaluation."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import call, metrics, status
from safetensors.numpy import load_file

from maxlite.hf.folder import open_folder
from maxlite.state.host import open_lazy

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer, Source
from maxlite.rules import Rule
from maxlite.transforms import AddLora


def get_config():
    return Config(
        model="{here}/model",
        init=(AddLora(rank=4, alpha=8, targets="q_proj,down_proj", dora=True, dropout=0.1),),
        train={train},
        steps=6,
        batch_size=8,
        seq_len=32,
        data=Data(train=(Source("{here}/text/en.txt"),), held_out=0.1),
        optimizer=Optimizer(learning_rate=5e-2, warmup=0),
        checkpoint=Checkpoint(every=3),
        eval=Eval(every=6, sample_tokens=0),
        log=Log(every=1),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    """A folder with model/, text/ and stages lora.py and tables.py."""
    here = tmp_path_factory.mktemp("desk")
    make_folder(here / "model", dtype="bfloat16")
    shutil.copytree(tiny_text, here / "text")
    tables = '(Rule("lora_B", learning_rate=16), Rule("lora"), Rule("input, output"))'
    rows = '(Rule("lora"), Rule("input", rows="380-"), Rule("output", rows="10-19"))'
    for name, train in (("lora", '"lora"'), ("tables", tables), ("rows", rows)):
        (here / f"{name}.py").write_text(STAGE.format(here=here, train=train))
    return here


def train(desk: Path, name: str, stage: str = "lora", **settings):
    keys = [f"--config.{key}={value}" for key, value in settings.items()]
    return call(
        "maxlite.train", f"--config={desk}/{stage}.py", f"--config.out={desk}/{name}", *keys
    )


@pytest.fixture(scope="module")
def trained(desk) -> Path:
    outcome = train(desk, "run", export=desk / "better")
    assert outcome.status == 0, outcome.err
    assert "its adapters are merged into the weights" in outcome.err
    return desk / "run"


def merged(run: Path) -> dict[str, np.ndarray]:
    """A run's weights with DoRA merged, by hand."""
    model = open_lazy(str(run))
    found = {}
    for name, tensor in model.tensors.items():
        if "lora" in name:
            continue
        w, at = tensor.read().astype(np.float32), name.removesuffix("weight")
        if f"{at}lora_A.weight" in model.tensors:
            parts = ("lora_A", "lora_B", "lora_magnitude_vector")
            a, b, m = (model.tensors[f"{at}{part}.weight"].read() for part in parts)
            w = w + 8 / 4 * b @ a
            w = w * (m / np.sqrt((w**2).sum(1)))[:, None]
        found[name] = w
    return found


def test_only_adapters_train_and_are_in_the_checkpoints(desk, trained):
    before, after = (entry["eval/en/loss"] for entry in metrics(trained) if "loss" not in entry)
    assert after < before - 0.01
    description = json.loads((trained / "run.json").read_text())
    assert all("lora" in name for name in description["trained"])
    assert len(description["trained"]) == 6
    model, base = open_lazy(str(trained)), open_folder(desk / "model")
    assert model.architecture.lora.rank == 4
    for name, tensor in model.tensors.items():
        if "lora" in name:
            assert np.any(tensor.read())
        else:
            assert tensor.read().tobytes() == base.tensors[name].read().tobytes()
    size = sum(f.stat().st_size for f in (trained / "checkpoints" / "6" / "params").rglob("*"))
    assert size < 60_000  # the whole model has four times as much


def test_an_export_has_them_merged(desk, trained):
    out = desk / "exported"
    outcome = call("tools.export_hf", f"--run={trained}", f"--out={out}")
    assert outcome.status == 0, outcome.err
    assert "its adapters are merged into the weights" in outcome.err
    expected = merged(trained)
    for folder in (out, desk / "better"):
        model = open_folder(folder)
        assert model.tensors.keys() == expected.keys()
        assert not model.architecture.lora.rank and "lora" not in model.metadata
        assert [entry["tool"] for entry in model.metadata["history"]] == ["add_lora", "train"]
        for name, tensor in model.tensors.items():
            assert str(tensor.dtype) == "bfloat16"
            np.testing.assert_allclose(
                tensor.read().astype(np.float32), expected[name], rtol=2**-8, atol=1e-6
            )


def test_the_run_and_its_export_say_the_same(desk, trained, tmp_path):
    whole = tmp_path / "float32"
    call("tools.export_hf", f"--run={trained}", f"--out={whole}", "--dtype=float32")
    figures = []
    for model in (trained, whole):
        file = tmp_path / f"{model.name}.json"
        text = desk / "text" / "en.txt"
        outcome = call(
            "tools.evaluate",
            f"--model={model}",
            f"--text={text}",
            f"--json={file}",
            "--documents=40",
        )
        assert outcome.status == 0, outcome.err
        figures.append(json.loads(file.read_text()))
    ours, theirs = (f["total"]["loss"] for f in figures)
    assert ours == pytest.approx(theirs, rel=1e-4)
    options = ("--prompt=The", "--max_new_tokens=8", "--dtype=float32")
    said = [call("tools.generate", f"--model={model}", *options) for model in (trained, whole)]
    assert said[0].status == 0, said[0].err
    assert said[0].out == said[1].out != ""


def test_it_goes_on_as_if_it_had_not_been_stopped(desk, trained, tmp_path):
    """From checkpoint 3, as a process that was killed after it would."""
    copy = desk / "resumed"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "checkpoints" / "6")
    state = status(copy) | {"status": "running", "step": 3, "checkpoint": 3}
    (copy / "status.json").write_text(json.dumps(state))
    outcome = train(desk, "resumed", export=desk / "resumed-better")
    assert outcome.status == 0, outcome.err
    assert "resumed from step 3" in outcome.err
    assert metrics(copy) == metrics(trained)
    one, other = (load_file(desk / n / "model.safetensors") for n in ("better", "resumed-better"))
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_surgery_on_a_run_with_adapters_is_refused(desk, trained, tmp_path):
    outcome = call("tools.untie", f"--model={trained}", f"--out={tmp_path}/out")
    assert "has adapters, which Untie would lose or misplace" in outcome.sentence
    assert not (tmp_path / "out").exists()


def test_an_adapter_folder_gives_peft_our_logits(desk, trained, tmp_path):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    for name in ("tables", "rows"):
        more = train(desk, name, name, steps=2)
        assert more.status == 0, more.err
    both = ["embed_tokens", "lm_head"]
    rows = {"embed_tokens": [*range(380, 400)], "lm_head": [*range(10, 20)]}
    ids = torch.tensor([[*range(3, 40), *range(370, 400)]])
    for run, tables in ((trained, None), (desk / "tables", both), (desk / "rows", None)):
        out, whole = tmp_path / f"{run.name}-adapter", tmp_path / f"{run.name}-whole"
        options = ("--adapter", "--dtype=float32")
        outcome = call("tools.export_hf", f"--run={run}", f"--out={out}", *options)
        assert outcome.status == 0, outcome.err
        assert f"it belongs to {desk}/model" in outcome.err
        assert sorted(p.name for p in out.iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        config = json.loads((out / "adapter_config.json").read_text())
        assert config["modules_to_save"] == tables and config["lora_dropout"] == 0.1
        assert config.get("trainable_token_indices") == (rows if run.name == "rows" else None)
        assert config["base_model_name_or_path"] == f"{desk}/model"
        call("tools.export_hf", f"--run={run}", f"--out={whole}", "--dtype=float32")
        base = AutoModelForCausalLM.from_pretrained(desk / "model", dtype=torch.float32)
        with torch.no_grad():
            before = base(ids).logits.numpy()
            theirs = peft.PeftModel.from_pretrained(base, out)(ids).logits.numpy()
            ours = AutoModelForCausalLM.from_pretrained(whole)(ids).logits.numpy()
        assert np.abs(ours - before).max() > 1e-2
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_what_an_adapter_cannot_hold_is_refused(desk, trained, tmp_path):
    more = train(desk, "more", steps=1, train="lora,norms")
    assert more.status == 0, more.err
    export = (f"--out={tmp_path}/out", "--adapter")
    assert "has trained model.layers.input_layernorm.weight, which a PEFT adapter cannot" in (
        call("tools.export_hf", f"--run={desk}/more", *export).sentence
    )
    call("tools.import_hf", f"--model={desk}/model", f"--out={desk}/plain")
    assert "has no adapters" in call("tools.export_hf", f"--run={desk}/plain", *export).sentence
    assert not (tmp_path / "out").exists()


def test_stages_rest_on_each_other(desk, trained, tmp_path):
    """The next stage goes on with the adapters; one that copies its base does the same."""
    (desk / "next.py").write_text((desk / "lora.py").read_text().replace("init=", "init=() and "))
    for name, copy in (("next", False), ("copied", True)):
        settings = {"model": trained, "steps": 2, "checkpoint.copy_base": copy}
        outcome = train(desk, name, "next", export=desk / f"{name}-better", **settings)
        assert outcome.status == 0, outcome.err
        assert "its adapters are merged into the weights" in outcome.err
    one, other = (load_file(desk / f"{n}-better" / "model.safetensors") for n in ("next", "copied"))
    for name, expected in merged(desk / "next").items():
        assert one[name].tobytes() == other[name].tobytes()
        np.testing.assert_allclose(one[name].astype(np.float32), expected, rtol=2**-8, atol=1e-6)
    before = merged(trained)
    assert any(not np.array_equal(x, before[n]) for n, x in merged(desk / "next").items())
    outcome = call("tools.export_hf", f"--run={desk}/next", f"--out={tmp_path}/a", "--adapter")
    assert outcome.status == 0, outcome.err
    again = train(desk, "again", "lora", model=trained)
    assert "has adapters, which AddLora would lose or misplace" in again.sentence


def test_a_run_goes_on_with_an_adapter_that_has_not_changed(desk, trained, tmp_path):
    given = tmp_path / "given"
    call("tools.export_hf", f"--run={trained}", f"--out={given}", "--adapter")
    stored = load_file(given / "adapter_model.safetensors").values()
    assert {str(x.dtype) for x in stored} == {"float32"}  # as trained, not as the model is stored
    text = (desk / "lora.py").read_text()
    at = text[text.index("AddLora(rank") : text.index("),),") + 1]
    (desk / "given.py").write_text(text.replace(at, f'AddLora(adapter="{given}")'))
    outcome = train(desk, "on", "given", steps=2, export=desk / "on-better")
    assert outcome.status == 0, outcome.err
    first = next(e["eval/en/loss"] for e in metrics(desk / "on") if "loss" not in e)
    last = [e["eval/en/loss"] for e in metrics(trained) if "loss" not in e][-1]
    assert first == pytest.approx(last, rel=1e-6)
    config = json.loads((given / "adapter_config.json").read_text()) | {"lora_alpha": 9}
    (given / "adapter_config.json").write_text(json.dumps(config))
    outcome = call("tools.export_hf", f"--run={desk}/on", f"--out={tmp_path}/out")
    assert "began with another adapter" in outcome.sentence


def test_over_weights_in_four_bits(desk, trained):
    """They are rounded on the devices alone: an export merges into what the base has."""
    pytest.importorskip("qwix")
    out = train(desk, "four", frozen_dtype="nf4", export=desk / "four-better")
    assert out.status == 0, out.err
    rows = [m for m in metrics(desk / "four") if "loss" not in m]
    assert rows[-1]["eval/en/loss"] < rows[0]["eval/en/loss"] - 0.01
    plain = [m for m in metrics(trained) if "loss" not in m]
    assert 0 < abs(rows[0]["eval/en/loss"] - plain[0]["eval/en/loss"]) < 0.1
    stored = load_file(desk / "four-better" / "model.safetensors")
    base = load_file(desk / "model" / "model.safetensors")
    for name, expected in merged(desk / "four").items():
        if "q_proj" in name or "down_proj" in name:
            np.testing.assert_allclose(stored[name].astype(np.float32), expected, rtol=2**-8)
        else:
            assert stored[name].tobytes() == base[name].tobytes()
    state = status(desk / "four") | {"status": "running", "step": 3, "checkpoint": 3}
    before = metrics(desk / "four")
    shutil.rmtree(desk / "four" / "checkpoints" / "6")
    (desk / "four" / "status.json").write_text(json.dumps(state))
    shutil.rmtree(desk / "four-better")
    again = train(desk, "four", frozen_dtype="nf4", export=desk / "four-better")
    assert again.status == 0 and "resumed from step 3" in again.err, again.err
    assert metrics(desk / "four") == before
