"""Surgery, training and export together: a model is rebuilt, trained on, and loaded by others."""

import contextlib
import json
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from commands import call, done, losses, metrics, snapshot, status
from extended import models_and_tokenizers

from maxlite.hf.folder import open_folder
from maxlite.state import batch, source
from maxlite.tokenizer import load_tokenizer

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer
from maxlite.transforms import CompactVocab, ExtendVocab, Untie, UpscaleDepth


def get_config():
    return Config(
        model="{model}",
        init=({init}),
        steps=4,
        batch_size=8,
        seq_len=32,
        data=Data(train=("{here}/xx.txt",), held_out=0.1),
        optimizer=Optimizer(learning_rate=3e-3, schedule="constant", warmup=0.0),
        checkpoint=Checkpoint(every=100),
        eval=Eval(every=0, documents=16, sample_tokens=0),
        log=Log(every=1),
    )
"""
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text, tiny_tokenizer) -> Path:
    """A folder with models, tied (float32) and untied (bfloat16), xx.txt and new tokenizers."""
    here = models_and_tokenizers(tmp_path_factory.mktemp("surgery"), make_folder, tiny_tokenizer)
    shutil.copy(tiny_text / "xx.txt", here / "xx.txt")
    return here


def stage(desk: Path, name: str, model: str | Path, init: str = "", /, **settings) -> list[str]:
    """Arguments of a run NAME with its export NAME-better; `init` as it stands in a config file."""
    text = STAGE.format(here=desk, model=desk / model, init=f"{init}," if init else "")
    (desk / f"{name}.py").write_text(text)
    settings = {"out": desk / name, "export": desk / f"{name}-better"} | settings
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return [f"--config={desk}/{name}.py", *keys]


def train(desk: Path, name: str, model: str | Path, init: str = "", /, **settings) -> Path:
    outcome = call("maxlite.train", *stage(desk, name, model, init, **settings))
    assert outcome.status == 0, outcome.err
    assert status(desk / name)["status"] == "finished"
    return desk / name


def better(run: Path) -> Path:
    """The export of a run."""
    return run.with_name(f"{run.name}-better")


# --- the promise ---------------------------------------------------------------------------------

Case = namedtuple("Case", "model init count tied layers tools settings")
CASES = {
    "one": Case("tied", 'ExtendVocab("{desk}/new-1")', 1, True, 3, ["extend_vocab"], {}),
    "many": Case(
        "untied",
        'ExtendVocab("{desk}/new-257", output_init="first")',
        257,
        False,
        3,
        ["extend_vocab"],
        {},
    ),
    "several": Case(
        "tied",
        'Untie(), ExtendVocab("{desk}/new-255"), UpscaleDepth(method="dus", drop=1)',
        255,
        False,
        4,
        ["untie", "extend_vocab", "upscale_depth"],
        {"mesh": "fsdp=4,tensor=2"},  # an odd number of rows, which two cannot share evenly
    ),
}


@pytest.fixture(scope="module")
def trained(desk):
    """trained(name): the run of a case, once."""
    runs: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in runs:
            case = CASES[name]
            init = case.init.format(desk=desk)
            runs[name] = train(desk, name, case.model, init, **case.settings)
        return runs[name]

    return run


@pytest.mark.parametrize("name", CASES)
def test_what_was_rebuilt_and_trained_is_a_model_like_any_other(name, desk, trained):
    run, case = trained(name), CASES[name]
    found = losses(run)
    assert list(found) == [1, 2, 3, 4] and found[4] < found[1]
    folder, before = better(run), open_folder(desk / case.model)
    model = open_folder(folder)
    rows = 400 + case.count
    arch = model.architecture
    assert (arch.vocab_size, arch.base_rows, arch.num_hidden_layers) == (rows, 400, case.layers)
    assert arch.tie_word_embeddings is case.tied and (HEAD in model.tensors) is not case.tied
    assert model.tensors[EMBEDDING].shape == (rows, 32)
    assert set(model.dtypes.values()) == set(before.dtypes.values())
    edits = {"vocab_size": rows, "num_hidden_layers": case.layers, "tie_word_embeddings": case.tied}
    assert model.config == before.config | edits
    assert all(np.isfinite(x.read().astype(np.float32)).all() for x in model.tensors.values())

    new = desk / f"new-{case.count}"
    for file in new.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert load_tokenizer(folder).rows == rows
    note = json.loads((folder / "maxlite.json").read_text())
    assert [entry["tool"] for entry in note["history"]] == [*case.tools, "train"]
    vocabulary = note["vocabulary"]
    assert (vocabulary["base_rows"], vocabulary["rows"]) == (400, rows)
    assert vocabulary["input_init"] == "mean"
    assert vocabulary.get("output_init") == {"one": None, "many": "first"}.get(name, "mean")
    assert note["origin"]["step"] == 4
    if case.layers > 3:
        assert note["layers"] == {"sources": [0, 1, 1, 2], "inserted": []}


@pytest.mark.parametrize("name", CASES)
def test_transformers_agrees_on_the_loss_of_the_export(name, desk, trained, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = better(trained(name))
    lines = (desk / "xx.txt").read_text(encoding="utf-8").splitlines()[:20]
    (tmp_path / "some.txt").write_text("\n".join(lines), encoding="utf-8")
    arguments = [f"--model={folder}", f"--text={tmp_path}/some.txt", "--dtype=float32"]
    done(call("tools.evaluate", *arguments, f"--json={tmp_path}/figures.json"))
    ours = json.loads((tmp_path / "figures.json").read_text())["total"]

    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    assert model.get_input_embeddings().weight.shape[0] == 400 + CASES[name].count
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    nll = tokens = 0
    seen = set()
    for line in lines:
        ids = torch.tensor([tokenizer(line)["input_ids"]])
        seen |= set(ids[0].tolist())
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        nll += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
        tokens += ids.shape[1] - 1
    assert max(seen) >= 400  # new pieces are used
    assert ours["tokens"] == tokens
    assert ours["loss"] == pytest.approx(nll / tokens, abs=1e-4)


# --- layers that change nothing at first ---------------------------------------------------------


EVALUATED = {"eval__every": 4}


@pytest.fixture(scope="module")
def base(desk) -> Path:
    """A run of the untied model as it is."""
    return train(desk, "base", "untied", **EVALUATED)


def evaluated(run: Path, step: int) -> dict:
    """The figures of the evaluation at a step."""
    (found,) = [entry for entry in metrics(run) if entry["step"] == step and "loss" not in entry]
    return found


def test_llama_pro_begins_where_its_base_is_and_learns(desk, base):
    run = train(desk, "pro", "untied", 'UpscaleDepth(method="llama_pro", add=3)', **EVALUATED)
    assert evaluated(run, 0) == evaluated(base, 0)
    assert losses(run)[1] == pytest.approx(losses(base)[1], abs=1e-6)
    assert evaluated(run, 4) != evaluated(base, 4)
    model = open_folder(better(run))
    assert model.architecture.num_hidden_layers == 6
    assert model.metadata["layers"] == {"sources": [0, 0, 1, 1, 2, 2], "inserted": [1, 3, 5]}
    for layer in model.metadata["layers"]["inserted"]:
        for part in ("self_attn.o_proj", "mlp.down_proj"):
            moved = model.tensors[f"model.layers.{layer}.{part}.weight"].read()
            assert moved.astype(np.float32).any()  # it was zero, and it trains


# --- going on ------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped_at(monkeypatch, step: int):
    """Sends SIGTERM as a step begins."""
    original, calls = batch.to_devices, []

    def struck(*arguments):
        calls.append(step)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(batch, "to_devices", struck)
        yield


def test_a_stopped_run_goes_on_and_rebuilds_nothing(desk, trained, tmp_path, monkeypatch):
    model = shutil.copytree(desk / "untied", tmp_path / "model")
    new = shutil.copytree(desk / "new-257", tmp_path / "new")
    init = f'ExtendVocab("{new}", output_init="first")'
    arguments = stage(desk, "stopped", model, init)
    with stopped_at(monkeypatch, 2):
        done(call("maxlite.train", *arguments))
    assert status(desk / "stopped")["status"] == "stopped"
    assert 1 <= status(desk / "stopped")["checkpoint"] < 4

    shutil.rmtree(model)  # nothing of it is needed again
    shutil.rmtree(new)
    before = snapshot(desk)
    for other, words in (
        ("", ["init was [{", "ExtendVocab", "and is now []"]),
        (init.replace("first", "mean"), ["'output_init': 'first'", "'output_init': 'mean'"]),
        (f"{init}, Untie()", ["'transform': 'Untie'"]),
    ):
        sentence = call("maxlite.train", *stage(desk, "stopped", model, other)).sentence
        assert all(word in sentence for word in words), sentence
    stage(desk, "stopped", model, init)
    assert snapshot(desk) == before

    def never(*_):
        raise AssertionError("init is applied again")

    monkeypatch.setattr(source, "apply", never)
    outcome = done(call("maxlite.train", *arguments))
    assert "resumed from step" in outcome.err and "400 vocabulary rows" not in outcome.err
    assert metrics(desk / "stopped") == metrics(trained("many"))
    ours, theirs = (snapshot(better(run)) for run in (desk / "stopped", trained("many")))
    assert ours.pop("maxlite.json") != theirs.pop("maxlite.json")  # the tokenizer's path
    assert ours == theirs


def test_a_longer_run_goes_on_from_a_shorter_one(desk, trained):
    init = CASES["many"].init.format(desk=desk)
    short = train(desk, "short", "untied", init, steps=2)
    assert losses(short).keys() == {1, 2}
    settings = {"steps": 4, "export": desk / "short-longer"}
    done(call("maxlite.train", *stage(desk, "short", "untied", init, **settings)))
    assert metrics(short) == metrics(trained("many"))
    expected = snapshot(better(trained("many")))[WEIGHTS]
    assert snapshot(desk / "short-longer")[WEIGHTS] == expected != snapshot(better(short))[WEIGHTS]


def test_a_run_killed_before_its_first_checkpoint_is_rebuilt_once_more(desk, trained):
    """The folder of the run is there, its weights are not."""
    init = CASES["many"].init.format(desk=desk)
    shutil.copytree(trained("many"), desk / "early")
    shutil.rmtree(desk / "early" / "checkpoints")
    (desk / "early" / "status.json").unlink()
    outcome = done(call("maxlite.train", *stage(desk, "early", "untied", init)))
    assert "resumed" not in outcome.err and "400 vocabulary rows -> 657" in outcome.err
    assert metrics(desk / "early") == metrics(trained("many"))
    expected = snapshot(better(trained("many")))[WEIGHTS]
    assert snapshot(better(desk / "early"))[WEIGHTS] == expected


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("UpscaleDepth()", ["there is no method", "layers or mergekit"]),
        ('UpscaleDepth(method="dus", drop=3)', ["drop is 3", "3 layers", "at most 2"]),
        ('UpscaleDepth(method="solar", drop=1)', ["'solar'", "dus, interlocked, llama_pro"]),
        ('UpscaleDepth(method="dus", drop="1")', ["init[0].drop", "int", "'1'"]),
        ('UpscaleDepth(methd="dus")', ["bad.py", "methd"]),
        ("Untie(), Untie()", ["untied", "is not tied"]),
        ("ExtendVocab()", ["ExtendVocab has no tokenizer"]),
        ('ExtendVocab("{here}/none")', ["no tokenizer at", "/none"]),
        ('ExtendVocab("{here}/new-1", input_init="zero")', ["input_init 'zero'", "global_mean"]),
        ('ExtendVocab("{here}/untied")', ["nothing to extend"]),
        ('CompactVocab(kept_ids="{here}/none")', ["/none", "cannot be read"]),
        ('"Untie"', ["'init'", "'Untie'", "no transform"]),
        ('type("Mine", (Untie,), {{}})()', ["'init'", "Mine", "no transform of maxlite"]),
    ],
)
def test_a_wrong_transform_is_refused_before_anything_is_written(desk, init, words):
    arguments = stage(desk, "bad", "untied", init.format(here=desk))
    before = snapshot(desk)
    for more in ([], ["--dry_run"]):
        sentence = call("maxlite.train", *arguments, *more).sentence
        assert all(word in sentence for word in words), sentence
    assert snapshot(desk) == before


def test_what_is_random_is_not_rebuilt(desk):
    """Or the config would be taken for another one than it is."""
    arguments = stage(desk, "bad", "untied", "Untie()", model="", data__tokenizer=desk / "untied")
    before = snapshot(desk)
    assert (
        "'init' changes a model, and 'model' is empty" in call("maxlite.train", *arguments).sentence
    )
    assert snapshot(desk) == before


def test_a_dry_run_tells_what_would_be_rebuilt(desk):
    init = f'ExtendVocab("{desk}/new-255"), UpscaleDepth(method="dus", drop=1)'
    arguments = stage(desk, "dry", "untied", init)
    before = snapshot(desk)
    outcome = done(call("maxlite.train", *arguments, "--dry_run"))
    for words in ("400 vocabulary rows -> 655", "new rows of lm_head.weight", "0-1 | 1-2"):
        assert words in outcome.err
    assert snapshot(desk) == before


# --- a run is a model ----------------------------------------------------------------------------


def test_a_run_is_rebuilt_as_its_float32_export_would_be(desk, base):
    exported = desk / "base-float32"
    done(call("tools.export_hf", f"--run={base}", f"--out={exported}", "--dtype=float32"))
    init = f'ExtendVocab("{desk}/new-255", untie=False), UpscaleDepth(method="dus", drop=1)'
    settings = {"export_dtype": "float32", "mesh": "fsdp=4,tensor=2"}
    one = train(desk, "from-run", base, init, **settings)
    other = train(desk, "from-folder", exported, init, **settings)
    assert metrics(one) == metrics(other)
    found, expected = (snapshot(better(run)) for run in (one, other))
    assert found[WEIGHTS] == expected[WEIGHTS]
    notes = [json.loads((better(run) / "maxlite.json").read_text()) for run in (one, other)]
    for note in notes:
        assert [entry["tool"] for entry in note["history"]] == [
            *("train", "extend_vocab", "upscale_depth", "train")
        ]
        del note["origin"], note["history"][-1]  # they name where the model came from
    assert notes[0] == notes[1]
    differing = {name for name in found if found[name] != expected.get(name)}
    assert found.keys() == expected.keys() and differing == {"maxlite.json"}


TOOLS = {
    "upscale_depth": ("many", ["--method=interlocked", "--drop=1", "--group=1"]),
    "untie": ("one", []),
    "extend_vocab": ("one", ["--tokenizer={desk}/new-255", "--input_init=gaussian"]),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_on_a_run_writes_what_it_writes_from_the_export(tool, desk, trained, tmp_path):
    name, settings = TOOLS[tool]
    settings = [setting.format(desk=desk) for setting in settings]
    run = trained(name)
    done(call("tools.export_hf", f"--run={run}", f"--out={tmp_path}/exported"))
    for model, out in ((run, "one"), (tmp_path / "exported", "other")):
        figures = f"--json={tmp_path}/{out}.json"
        done(
            call(f"tools.{tool}", f"--model={model}", f"--out={tmp_path}/{out}", *settings, figures)
        )
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "other")
    note = json.loads((tmp_path / "one" / "maxlite.json").read_text())
    assert [entry["tool"] for entry in note["history"]] == ["extend_vocab", "train", tool]
    assert snapshot(tmp_path / "exported") == snapshot(better(run))
    transformers = pytest.importorskip("transformers")
    _, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "one", output_loading_info=True
    )
    assert not any(report.values())
