"""inherit, as a user calls it, and as the beginning of a stage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import call, done, losses, refused, snapshot, status
from extended import extend
from test_compact_vocab import compacted_tokenizer

from maxlite.hf.folder import open_folder
from maxlite.state import init
from maxlite.surgery import inheritance, scores
from maxlite.transforms import CompactVocab, ExtendVocab, Inherit

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
FLAGS = [f"--{key}={value}" for key, value in SIZES.items()]


@pytest.fixture
def source(tiny_folder) -> Path:
    return tiny_folder(num_hidden_layers=4, dtype="bfloat16", shards=2)


def read(model) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in model.tensors.items()}


def same(one, other) -> bool:
    a, b = read(one), read(other)
    return a.keys() == b.keys() and all(a[n].tobytes() == b[n].tobytes() for n in a)


# --- the tool ------------------------------------------------------------------------------------


def test_a_target_is_reached_and_told(source, tmp_path):
    target = open_folder(source).config | SIZES | {"head_dim": 8}
    (tmp_path / "target.json").write_text(json.dumps(target))
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    outcome = done(
        call(
            *("tools.inherit", f"--model={source}", f"--target={tmp_path}/target.json"),
            *("--criterion=l1", f"--out={out}", f"--json={figures}"),
        )
    )
    before, after = open_folder(source), open_folder(out)
    plan = inheritance.planned(before, **SIZES, criterion="l1")
    assert same(after, plan.result())
    assert after.config == target
    told = json.loads(figures.read_text())
    assert told["parameters_before"] == before.parameters and told["layers"] == [0, 1, 3]
    assert told["parameters"] == after.parameters < before.parameters
    share = plan.shares()["channels"]
    assert told["kept"]["channels"] == {"kept": 24, "of": 48, "criterion": "l1", "share": share}
    assert told["kept"]["groups"]["criterion"] is None
    assert f"24 of 48 FFN channels in each layer by l1, {share:.1%} of their" in outcome.err
    assert "3 of 4 layers (0-1 | 3)" in outcome.err
    note = json.loads((out / "maxlite.json").read_text())
    assert note["layers"] == {"sources": [0, 1, 3], "inserted": []}
    assert note["inherited"][0]["criteria"] == {"channels": "l1", "residual": "l1"}
    arguments = {"target": f"{tmp_path}/target.json", "criterion": "l1"}
    assert [(e["tool"], e["arguments"]) for e in note["history"]] == [("inherit", arguments)]
    for file in ("tokenizer.json", "tokenizer.model", "generation_config.json"):
        assert (out / file).read_bytes() == (source / file).read_bytes()


def test_scores_that_are_saved_choose_the_same_again(source, tmp_path):
    file = tmp_path / "scores.safetensors"
    flags = ["tools.inherit", f"--model={source}", *FLAGS, "--layers=importance"]
    random = ["--criterion=random", "--seed=3", f"--save_scores={file}"]
    done(call(*flags, *random, f"--out={tmp_path}/one"))
    assert scores.read(file).criterion == "random" and scores.read(file).layers is not None
    done(call(*flags, f"--scores={file}", f"--out={tmp_path}/again"))
    one, again = (open_folder(tmp_path / name) for name in ("one", "again"))
    assert same(one, again) and not same(
        one, inheritance.planned(open_folder(source), **SIZES).result()
    )
    sentence = refused(tmp_path, *flags, *random, f"--out={tmp_path}/two")
    assert "scores.safetensors exists" in sentence and "--overwrite" in sentence


def test_a_dry_run_writes_nothing(source, tmp_path):
    before = snapshot(tmp_path)
    flags = ["tools.inherit", f"--model={source}", *FLAGS, "--dry_run"]
    outcome = done(call(*flags, f"--save_scores={tmp_path}/scores"))
    assert "would write" in outcome.err and "16 of 32 residual channels by l2" in outcome.err
    outcome = done(call(*flags, "--criterion=taylor", "--text=some.txt"))
    assert "would measure channels and residual by taylor on some.txt" in outcome.err
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], ["nothing to leave out"]),
        (["--hidden_size=64"], ["hidden_size 64", "the 32 of"]),
        (["--num_attention_heads=3"], ["3 is not a multiple of 2"]),
        (["--layers=0-4"], ["names layer 4", "has 4"]),
        ([*FLAGS, "--target={here}/model"], ["target gives all sizes"]),
        ([*FLAGS, "--criterion=l3"], ["--criterion=l3", "taylor"]),
        ([*FLAGS, "--criterion=taylor"], ["measured on text", "--text"]),
        ([*FLAGS, "--text=x"], ["--text is for activation"]),
        ([*FLAGS, "--criterion=block_influence", "--text=x"], ["nothing of channels and residual"]),
        (["--layers=0-1", "--criterion=taylor", "--text=x"], ["nothing is chosen by"]),
        ([*FLAGS, "--scores={here}/none"], ["no file of scores", "/none"]),
        ([*FLAGS, "--scores={here}/model/model.safetensors"], ["no file of scores"]),
        ([*FLAGS, "--scores=x", "--save_scores={here}/s"], ["--save_scores", "there is none"]),
        ([*FLAGS, "--save_scores={here}/none/s"], ["does not exist"]),
    ],
)
def test_what_is_wrong_is_one_sentence(flags, words, source, tmp_path):
    flags = [flag.format(here=tmp_path) for flag in flags]
    given = [f"--model={source}", f"--out={tmp_path}/out", *flags]
    sentence = refused(tmp_path, "tools.inherit", *given)
    assert all(word in sentence for word in words), sentence


def test_scores_of_another_model_are_refused(source, tiny_folder, tmp_path):
    other = tiny_folder("other", num_hidden_layers=4, dtype="bfloat16", seed=5)
    file = f"--save_scores={tmp_path}/scores"
    done(call("tools.inherit", f"--model={other}", *FLAGS, file, f"--out={tmp_path}/small"))
    given = [f"--model={source}", *FLAGS, f"--scores={tmp_path}/scores", f"--out={tmp_path}/out"]
    assert "other weights than" in refused(tmp_path, "tools.inherit", *given)


@pytest.mark.parametrize("criterion", ["activation", "taylor", "learned"])
def test_a_model_at_work_is_measured(criterion, source, tiny_text, tmp_path):
    pytest.importorskip("maxlite.importance.measure")
    file, out = tmp_path / "scores", tmp_path / "out"
    text = [f"--text={tiny_text}/en.txt", "--sequences=8", "--seq_len=16", f"--save_scores={file}"]
    flags = [f"--model={source}", *FLAGS, f"--criterion={criterion}", *text, f"--out={out}"]
    done(call("tools.inherit", *flags))
    found = scores.read(file)
    assert found.criterion == criterion and "en.txt" in found.text
    assert same(
        open_folder(out),
        inheritance.planned(open_folder(source), **SIZES, scores=str(file)).result(),
    )
    entry = open_folder(out).metadata["history"][0]["arguments"]
    assert entry["criterion"] == criterion and entry["text"] == f"{tiny_text}/en.txt"


# --- with other surgery --------------------------------------------------------------------------


def test_it_follows_compaction(tiny_folder, tmp_path):
    folder = tiny_folder(tokenizer="model", num_hidden_layers=4)
    kept = sorted({*range(259), *range(300, 390, 3)})
    small = compacted_tokenizer(folder, tmp_path / "small.model", kept)
    (tmp_path / "ids").write_text("\n".join(map(str, kept)))
    flags = [f"--kept_ids={tmp_path}/ids", f"--tokenizer={small}", f"--out={tmp_path}/compact"]
    done(call("tools.compact_vocab", f"--model={folder}", *flags))
    flags = [*FLAGS, "--criterion=first", f"--out={tmp_path}/out"]
    done(call("tools.inherit", f"--model={tmp_path}/compact", *flags))
    before, after = open_folder(folder), open_folder(tmp_path / "out")
    for name in (EMBEDDING, HEAD):
        expected = before.tensors[name].read()[kept][:, :16]
        assert after.tensors[name].read().tobytes() == expected.tobytes()
    compact = open_folder(tmp_path / "compact").metadata
    assert {k: after.metadata[k] for k in ("vocabulary", "kept_ids")} == {
        k: compact[k] for k in ("vocabulary", "kept_ids")
    }
    assert [e["tool"] for e in after.metadata["history"]] == ["compact_vocab", "inherit"]
    assert (tmp_path / "out" / "kept_ids.txt").read_text().split() == [str(i) for i in kept]
    both = [CompactVocab(f"{tmp_path}/ids", str(small)), Inherit(**SIZES, criterion="first")]
    assert same(init.apply(before, both), after)


def test_it_follows_an_extension(source, tiny_tokenizer, tmp_path):
    new = extend(tiny_tokenizer, tmp_path / "new", 7)
    before = open_folder(source)
    extended = init.apply(before, [ExtendVocab(tokenizer=str(new))])
    after = init.apply(extended, [Inherit(**SIZES)])
    assert (after.architecture.vocab_size, after.architecture.base_rows) == (407, 400)
    plan = inheritance.planned(extended, **SIZES)
    for name in (EMBEDDING, HEAD):
        expected = extended.tensors[name].read()[:, plan.kept.residual]
        assert after.tensors[name].read().tobytes() == expected.tobytes()
    again = init.apply(after, [Inherit(intermediate_size=8, layers="0,2", criterion="first")])
    assert again.metadata["layers"]["sources"] == [0, 3]
    assert [r["intermediate_size"] for r in again.metadata["inherited"]] == [24, 8]
    name = "mlp.gate_proj.weight"
    expected = after.tensors[f"model.layers.2.{name}"].read()[:8]
    assert again.tensors[f"model.layers.1.{name}"].read().tobytes() == expected.tobytes()


# --- a stage -------------------------------------------------------------------------------------

STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Log, Optimizer
from maxlite.transforms import Inherit


def get_config():
    return Config(
        model="{here}/model",
        init=(Inherit({init}),),
        out="{here}/run",
        export="{here}/better",
        steps=2,
        batch_size=8,
        seq_len=16,
        train="{train}",
        data=Data(train=("{here}/xx.txt",)),
        optimizer=Optimizer(learning_rate=3e-3, schedule="constant", warmup=0.0),
        checkpoint=Checkpoint(every=1),
        eval=Eval(every=0, sample_tokens=0),
        log=Log(every=1),
    )
"""


@pytest.fixture
def stage(source, tiny_text, tmp_path):
    """stage(train, init): the arguments of a run of it; settings of Inherit as in a config."""
    shutil.copy(tiny_text / "xx.txt", tmp_path / "xx.txt")

    def write(train="everything", init="", **settings):
        init = init or ", ".join(f"{k}={v!r}" for k, v in {**SIZES, **settings}.items())
        (tmp_path / "stage.py").write_text(STAGE.format(here=tmp_path, train=train, init=init))
        return f"--config={tmp_path}/stage.py"

    return write


@pytest.mark.parametrize("mesh", ["fsdp=8", "fsdp=4,tensor=2"])
def test_a_stage_begins_with_what_it_inherits(mesh, stage, source, tmp_path):
    outcome = done(call("maxlite.train", stage(), f"--config.mesh={mesh}"))
    assert "24 of 48 FFN channels in each layer by l2" in outcome.err
    assert list(losses(tmp_path / "run")) == [1, 2]
    after = open_folder(tmp_path / "better")
    assert {k: after.config[k] for k in SIZES} == SIZES and after.config["head_dim"] == 8
    expected = init.apply(open_folder(source), [Inherit(**SIZES)])
    moved = []
    for name, tensor in after.tensors.items():
        now, then = (x.read().astype(np.float32) for x in (tensor, expected.tensors[name]))
        np.testing.assert_allclose(now, then, atol=0.02)  # two steps of 3e-3, in bfloat16
        moved.append(not np.array_equal(now, then))
    assert sum(moved) > len(moved) / 2
    tools = [e["tool"] for e in after.metadata["history"]]
    assert tools == ["inherit", "train"]
    figures = tmp_path / "plan.json"
    done(call("maxlite.plan", stage(), f"--json={figures}"))
    assert json.loads(figures.read_text())["parameters"] == after.parameters


def test_what_is_frozen_is_inherited_again_when_a_run_goes_on(stage, source, tmp_path):
    small = inheritance.planned(open_folder(source), **SIZES, criterion="random")
    small.measured.write(tmp_path / "scores")
    arguments = stage("vocabulary", scores=f"{tmp_path}/scores")
    done(call("maxlite.train", arguments, "--config.steps=1"))
    done(call("maxlite.train", arguments, f"--config.export={tmp_path}/longer"))
    assert status(tmp_path / "run")["status"] == "finished"
    expected = init.apply(open_folder(source), [Inherit(**SIZES, scores=f"{tmp_path}/scores")])
    after = open_folder(tmp_path / "longer")
    for name, tensor in expected.tensors.items():
        same_bytes = after.tensors[name].read().tobytes() == tensor.read().tobytes()
        assert same_bytes is (name not in (EMBEDDING, HEAD)), name

    other = inheritance.planned(open_folder(source), **SIZES, criterion="first")
    other.measured.write(tmp_path / "scores")
    again = ["tools.export_hf", f"--run={tmp_path}/run", f"--out={tmp_path}/again"]
    assert "other scores" in refused(tmp_path, *again)


@pytest.mark.parametrize(
    "init, words",
    [
        ("", ["nothing to leave out"]),
        ("hidden_size=64", ["hidden_size 64"]),
        ('hidden_size=16, criterion="taylor"', ["'taylor'", "as scores"]),
        ('hidden_size=16, scores="/none"', ["/none"]),
        ('hidden_size="16"', ["init[0].hidden_size"]),
    ],
)
def test_a_wrong_stage_is_refused_before_anything_is_written(init, words, stage, tmp_path):
    arguments = stage(init=init or "seed=0")
    for more in ([], ["--dry_run"]):
        sentence = refused(tmp_path, "maxlite.train", arguments, *more)
        assert all(word in sentence for word in words), sentence
