"""The recipes of configs/, each from text to a model: stopped once, gone on with, and looked at."""

import json
import random
import signal
import subprocess
import sys

import pytest
from commands import ROOT, call, done, run, start, status, strike

from maxlite import flags
from maxlite.recipe import Adaptation
from maxlite.recipe.steps import resolve, steps

KOREAN = {"cleaning": "korean.py", "script": "Hangul"}
RECIPES = {
    "eeve": {"first": 6, "tokens": 4000},  # the stages before are like these
    "chinese_llama": KOREAN | {"tokens": 4000},
    "redwhale": {"tokens": 8000},
    "solar": {"tokens": 2000, "method": "interlocked", "group": 3},
    "pangu": {"tokens": 4000, "sequences": 8},
}
SECONDS = 900  # that one may take on a busy machine


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder):
    """A folder with model/, ko.txt and en.txt, stories as the demo tells them."""
    here = tmp_path_factory.mktemp("recipes")
    make_folder(here / "model", num_hidden_layers=4, max_position_embeddings=512)
    (here / "huge").mkdir()
    large = {"hidden_size": 80_000, "intermediate_size": 300_000, "num_hidden_layers": 16}
    told = json.loads((here / "model" / "config.json").read_text()) | large
    (here / "huge" / "config.json").write_text(json.dumps(told))
    for language, count in (("ko", 700), ("en", 200)):
        make = [f"--language={language}", f"--stories={count}", f"--out={here}/{language}.txt"]
        script = ROOT / "launch" / "demo" / "make_text.py"
        subprocess.run([sys.executable, script, *make, "--skip=0"], check=True)
    told = [line for line in (here / "ko.txt").read_text("utf-8").splitlines() if line]
    pairs = [{"instruction": line[:20], "output": line[20:60]} for line in told[:100]]
    (here / "chat.json").write_text(json.dumps(pairs), "utf-8")
    return here


def given(here, name):
    keys = {"model": here / "model", "corpus": here / "ko.txt", "out": here / name}
    keys |= {"keep": here / "en.txt"} if name == "solar" else {}
    keys |= {"chat": here / "chat.json"} if name == "chinese_llama" else {}
    keys |= {"size": "laptop", "held_out": 0.05} | RECIPES[name]
    return [f"--config={name}/recipe.py", *(f"--config.{k}={v}" for k, v in keys.items())]


def listed(arguments):
    return steps(flags.parse_as(arguments, flags.class_of(arguments, Adaptation), resolve)[0])


@pytest.mark.parametrize("name", RECIPES)
def test_from_text_to_a_model_with_a_stop_between(name, desk):
    out, arguments = desk / name, given(desk, name)
    names = [step.name for step in listed(arguments)]
    stop = random.Random(name).choice(names[1:-1])

    def at_work():
        file = out / "recipe.json"
        return file.is_file() and json.loads(file.read_text())["step"] == stop

    process = start("maxlite.recipe", *arguments)
    (stopped,) = strike(signal.SIGTERM, process, at_work, seconds=SECONDS)
    assert stopped.status == 128 + signal.SIGTERM, stopped.err
    again = done(run("maxlite.recipe", *arguments, seconds=SECONDS))
    assert again.err.count(": done") == names.index(stop)
    told = json.loads((out / "recipe.json").read_text())
    assert told["status"] == "finished" and [*told["steps"]] == names

    runs = [path for path in out.iterdir() if (path / "run.json").is_file()]
    assert runs and all(status(path)["status"] == "finished" for path in runs)
    before, after = (json.loads((out / f"{n}.json").read_text()) for n in ("before", "after"))
    assert after["total"]["bytes"] == before["total"]["bytes"] > 0
    assert after["files"][0]["bits_per_byte"] < before["files"][0]["bits_per_byte"]
    assert len((out / "samples.jsonl").read_text("utf-8").splitlines()) == 8
    template = out / "model" / "chat_template.jinja"
    assert ("tuned" in names) == template.is_file() == (name == "chinese_llama")
    _check_peer(out, desk)


def _check_peer(out, desk):
    """transformers loads the model, and has its loss."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    line = (desk / "ko.txt").read_text("utf-8").splitlines()[0][:24].strip()
    text, figures = out / "line.txt", out / "line.json"
    text.write_text(line, "utf-8")
    done(call("tools.evaluate", f"--model={out}/model", f"--text={text}", f"--json={figures}"))
    ids = AutoTokenizer.from_pretrained(out / "model")(line, return_tensors="pt").input_ids
    with torch.no_grad():
        peer = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
        expected = float(peer(ids, labels=ids).loss)
    ours = json.loads(figures.read_text())["total"]
    assert ours["tokens"] == ids.shape[1] - 1
    assert ours["loss"] == pytest.approx(expected, rel=1e-4)


def planned(name, tmp_path, *more):
    """The plan of a recipe at the paper's size, without anything of it here."""
    file = tmp_path / "plan.json"
    done(call("maxlite.recipe", f"--config={name}/recipe.py", "--plan", f"--json={file}", *more))
    return {step["name"]: step for step in json.loads(file.read_text())}


def tokens(step):
    keys = dict(word.removeprefix("--config.").split("=", 1) for word in step["command"][3:])
    return int(keys["steps"]) * int(keys["batch_size"]) * int(keys["seq_len"])


@pytest.mark.parametrize(
    ("name", "shares", "parameters", "budget"),
    [
        ("eeve", {"stage1": 0.0034, "stage5": 0.0189, "stage7": 0.9689}, 10_804_924_416, 2e9),
        ("chinese_llama", {"stage1": 0.0297, "stage2": 0.0606}, 6_885_486_592, 4.2e9),
        ("redwhale", {"odd": 0.4815, "even": 0.4815, "lora": 0.0442}, 10_871_377_920, 9.7e9),
        ("solar", {"continued": 1.0}, 10_731_524_096, 1e9),
        ("pangu", {"round1": 1.0, "round2": 1.0}, 951_983_872, 1.6e12),
    ],
)
def test_the_plan_at_the_papers_size(name, shares, parameters, budget, tmp_path):
    stages = {k: v for k, v in planned(name, tmp_path).items() if "plan" in v}
    assert min(stage["plan"]["parameters"] for stage in stages.values()) == parameters
    for stage, share in shares.items():
        assert stages[stage]["plan"]["trainable_share"] == pytest.approx(share, abs=5e-5)
    assert sum(map(tokens, stages.values())) == pytest.approx(budget, rel=1e-3)


def test_the_plan_knows_what_steps_will_make(desk):
    """The shapes are those of the model that is given, not of the paper's."""
    for name, layers, rows in (("solar", 6, 400), ("pangu", 3, 300), ("redwhale", 4, 2400)):
        file = desk / f"{name}.plan"
        elsewhere = f"--config.out={desk}/planned"
        done(call("maxlite.recipe", *given(desk, name), elsewhere, "--plan", f"--json={file}"))
        plans = [step["plan"] for step in json.loads(file.read_text()) if "plan" in step]
        width, ffn = 32, 24 if name == "pangu" else 48
        layer = 2 * width * width + 2 * width * 16 + 3 * width * ffn + 2 * width
        assert plans[0]["parameters"] == 2 * rows * width + layers * layer + width


def test_bad_input_is_refused_before_the_first_step(desk, tmp_path):
    arguments = given(desk, "solar")

    def refused(*more):
        keys = [f"--config.out={tmp_path}/out", *more]
        sentence = call("maxlite.recipe", *arguments, *keys).sentence
        assert not (tmp_path / "out").exists()
        return sentence

    assert "'size' is 'huge'; there are paper, laptop" in refused("--config.size=huge")
    assert f"'corpus': no file matches '{desk}/none.txt'" in refused(
        f"--config.corpus={desk}/none.txt"
    )
    assert f"'model': no file matches '{desk}/none'" in refused(f"--config.model={desk}/none")
    assert "config key 'model' is empty" in refused("--config.model=")
    huge = "--config.model=" + str(
        desk / "huge"
    )  # a folder of config.json alone, 1.3e12 parameters
    assert "GiB for what is still to do, and" in refused(huge)
    assert "--topology is for --plan" in refused("--topology=h100:1")
    assert (
        "there is no config file 'solar/receipt.py'"
        in call("maxlite.recipe", "--config=solar/receipt.py").sentence
    )


def test_text_that_has_changed_is_not_gone_on_with(desk, tmp_path):
    text, out = tmp_path / "ko.txt", tmp_path / "out"
    text.write_bytes((desk / "ko.txt").read_bytes())
    arguments = [*given(desk, "solar"), f"--config.corpus={text}", f"--config.out={out}"]
    process = start("maxlite.recipe", *arguments)
    strike(signal.SIGTERM, process, (out / "before.json").is_file, seconds=SECONDS)
    text.write_text("하늘이 파랗다.\n", "utf-8")
    sentence = run("maxlite.recipe", *arguments).sentence
    assert f"step 'clean' began with other settings: {text} has other content now" in sentence
    assert "--overwrite" in sentence and (out / "clean").is_dir()
