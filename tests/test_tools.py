"""The tools as a user calls them."""

import fcntl
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from commands import call, run, snapshot, status
from safetensors.numpy import load_file

from maxlite.generate import Generator

TOOLS = {
    "import_hf": ["--model", "--out"],
    "export_hf": ["--run", "--out", "--step", "--dtype", "--max_shard_size"],
    "generate": ["--model", "--prompt", "--max_new_tokens", "--temperature", "--top_p", "--seed"]
    + ["--count", "--batch_size", "--out"],
    "evaluate": ["--model", "--text"],
}
SHARED = ["--json", "--[no]overwrite", "--[no]dry_run"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text) -> Path:
    """model/, and imported/, its run."""
    here = tmp_path_factory.mktemp("tools")
    make_folder(here / "model", dtype="bfloat16", shards=2, scale=0.4)
    (here / "model" / "LICENSE.txt").write_text("do as you like\n")
    outcome = call("tools.import_hf", f"--model={here}/model", f"--out={here}/imported")
    assert outcome.status == 0, outcome.err
    return here


@pytest.fixture
def unchanged(desk):
    """What a test leaves of the shared folder must be what it found."""
    before = snapshot(desk)
    yield
    assert snapshot(desk) == before


@pytest.mark.parametrize("tool", TOOLS)
def test_help_names_every_flag(tool):
    outcome = call(f"tools.{tool}", "--help")
    assert outcome.status == 0 and not outcome.err
    assert f"python -m tools.{tool} " in outcome.out
    for flag in (*TOOLS[tool], *SHARED):
        assert f"{flag}:" in outcome.out, flag


@pytest.mark.parametrize("tool", TOOLS)
def test_what_must_be_given_is_asked_for(tool, desk, unchanged):
    assert f"{TOOLS[tool][0]}" in call(f"tools.{tool}").sentence
    assert "'no_such_flag'" in call(f"tools.{tool}", "--no_such_flag=1").sentence
    model = f"{TOOLS[tool][0]}={desk}/model"
    assert "'stray'" in call(f"tools.{tool}", model, "stray").sentence


def test_a_tool_is_a_program_of_its_own(desk, unchanged):
    outcome = run("tools.generate", f"--model={desk}/model", "--max_new_tokens=2")
    assert outcome.status == 0 and outcome.out.endswith("\n"), outcome.err
    outcome = run("tools.export_hf", f"--run={desk}/model", f"--out={desk}/new")
    assert f"{desk}/model" in outcome.sentence and outcome.out == ""


# --- import and export ---------------------------------------------------------------------------


def same_model(folder: Path, source: Path) -> bool:
    """Whether all tensors and all other files are the same, however the tensors are in files."""

    def tensors(path: Path) -> dict:
        found: dict = {}
        for file in path.glob("*.safetensors"):
            found |= load_file(file)
        return {name: (t.dtype, t.shape, t.tobytes()) for name, t in found.items()}

    def others(path: Path) -> dict:
        return {k: v for k, v in snapshot(path).items() if not k.startswith("model")}

    return tensors(folder) == tensors(source) and others(folder) == others(source)


def test_an_imported_run_stands_alone_and_exports_the_same_bytes(desk, tmp_path):
    shutil.copytree(desk / "model", tmp_path / "source")
    figures = tmp_path / "figures.json"
    outcome = call(
        "tools.import_hf",
        f"--model={tmp_path}/source",
        f"--out={tmp_path}/run",
        f"--json={figures}",
    )
    assert outcome.status == 0 and outcome.out == "", outcome.err
    size = sum(
        t.nbytes for f in (desk / "model").glob("*.safetensors") for t in load_file(f).values()
    )
    assert json.loads(figures.read_text()) == {"parameters": size // 2, "bytes": size}
    shutil.rmtree(tmp_path / "source")
    run_folder = tmp_path / "run"
    assert status(run_folder) | {"status": "finished", "step": 0, "steps": 0} == status(run_folder)

    outcome = call("tools.export_hf", f"--run={run_folder}", f"--out={tmp_path}/exported")
    assert outcome.status == 0 and outcome.out == "", outcome.err
    assert same_model(tmp_path / "exported", desk / "model")
    assert not list(tmp_path.glob("*tmp*"))


def test_export_splits_and_casts(desk, unchanged, tmp_path):
    arguments = [f"--run={desk}/imported", f"--out={tmp_path}/out"]
    outcome = call(
        "tools.export_hf", *arguments, "--dtype=float32", "--max_shard_size=60KB", "--step=0"
    )
    assert outcome.status == 0, outcome.err
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(shards) > 1 and {s.name for s in shards} == set(index["weight_map"].values())
    source: dict = {}
    for file in (desk / "model").glob("*.safetensors"):
        source |= load_file(file)
    for file in shards:
        for name, tensor in load_file(file).items():
            assert tensor.dtype == "float32" and (tensor == source[name].astype("float32")).all()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["torch_dtype"] == "float32"


def test_nothing_is_replaced_unasked(desk, tmp_path, make_folder):
    other = make_folder(tmp_path / "other", seed=7)
    new = tmp_path / "new"
    for tool, given in (("import_hf", f"--model={other}"), ("export_hf", f"--run={desk}/imported")):
        arguments = [f"tools.{tool}", given, f"--out={new}"]
        assert call(*arguments).status == 0
        first = snapshot(new)
        assert str(new) in call(*arguments).sentence
        assert snapshot(new) == first
        (new / "old").touch()
        assert call(*arguments, "--overwrite").status == 0
        assert not (new / "old").exists()
        shutil.rmtree(new)
    shutil.copytree(other, new)
    assert (
        call("tools.export_hf", f"--run={desk}/imported", f"--out={new}", "--overwrite").status == 0
    )
    assert same_model(new, desk / "model")
    assert {p.name for p in tmp_path.iterdir()} == {"other", "new"}


def test_what_a_killed_export_left_is_removed_by_the_next(desk, tmp_path):
    stale, live, mine = (tmp_path / f"new.tmp-{end}" for end in ("0a1b2c3d", "99999999", "notes"))
    for folder in (stale, live, mine):
        folder.mkdir()
        (folder / "model.safetensors").touch()
    handle = os.open(live, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)  # as one that is being written
    outcome = call("tools.export_hf", f"--run={desk}/imported", f"--out={tmp_path}/new")
    os.close(handle)
    assert outcome.status == 0, outcome.err
    assert {p.name for p in tmp_path.iterdir()} == {"new", live.name, mine.name}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_dry_run_writes_nothing(tool, desk, unchanged, tmp_path, tiny_text):
    figures = tmp_path / "figures.json"
    arguments = {
        "import_hf": [f"--model={desk}/model", f"--out={tmp_path}/new"],
        "export_hf": [f"--run={desk}/imported", f"--out={tmp_path}/new"],
        "generate": [f"--model={desk}/model", "--prompt=the cat"],
        "evaluate": [f"--model={desk}/model", f"--text={tiny_text}/en.txt"],
    }[tool]
    outcome = call(f"tools.{tool}", *arguments, "--dry_run", f"--json={figures}")
    assert outcome.status == 0 and outcome.out == "" and outcome.err
    assert not list(tmp_path.iterdir())


def test_figures_go_where_there_is_a_place_for_them(desk, unchanged, tmp_path):
    mine = tmp_path / "mine.json"
    mine.write_text("mine")
    arguments = ["tools.generate", f"--model={desk}/model", "--max_new_tokens=1"]
    assert str(mine) in call(*arguments, f"--json={mine}").sentence
    assert mine.read_text() == "mine"
    assert call(*arguments, f"--json={mine}", "--overwrite").status == 0
    assert json.loads(mine.read_text())["new_tokens"] == 1
    assert str(tmp_path / "no") in call(*arguments, f"--json={tmp_path}/no/x.json").sentence
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]


# --- generate ------------------------------------------------------------------------------------


def generated(desk: Path, *arguments: str) -> dict:
    figures = desk / "figures.json"
    outcome = call("tools.generate", f"--model={desk}/model", f"--json={figures}", *arguments)
    assert outcome.status == 0, outcome.err
    found = json.loads(figures.read_text())
    figures.unlink()
    assert outcome.out == found["text"] + "\n"
    return found


def test_generation_is_the_same_every_time(desk, unchanged):
    greedy = generated(desk, "--prompt=the cat", "--max_new_tokens=12")
    assert greedy["text"].startswith("the cat") and greedy["new_tokens"] <= 12
    assert generated(desk, "--prompt=the cat", "--max_new_tokens=12", "--seed=9") == greedy

    warm = ["--prompt=the cat", "--max_new_tokens=12", "--temperature=1.5", "--top_p=0.9"]
    texts = [generated(desk, *warm, f"--seed={seed}")["text"] for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]
    nucleus = ["--temperature=1", "--top_p=1e-6", "--prompt=the cat", "--max_new_tokens=12"]
    assert generated(desk, *nucleus) == greedy


def test_a_run_generates_what_its_model_does(desk, unchanged):
    texts = {
        call("tools.generate", f"--model={desk}/{name}", "--max_new_tokens=9").out
        for name in ("model", "imported")
    }
    assert len(texts) == 1


def test_greedy_generation_is_that_of_transformers(desk, unchanged):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(desk / "model", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(desk / "model")
    prompt = tokenizer("the tall woman", return_tensors="pt")
    theirs = model.generate(**prompt, max_new_tokens=20, do_sample=False)[0]
    ours = generated(desk, "--prompt=the tall woman", "--max_new_tokens=20")
    new = theirs[prompt["input_ids"].shape[1] :].tolist()
    assert ours["ids"] == new[: new.index(2)] if 2 in new else ours["ids"] == new


def test_generation_within_the_context(desk, unchanged):
    arguments = ["tools.generate", f"--model={desk}/model"]
    sentence = call(*arguments, "--max_new_tokens=128").sentence
    assert "128" in sentence and "--max_new_tokens" in sentence
    assert "temperature" in call(*arguments, "--temperature=-1").sentence
    assert "top_p" in call(*arguments, "--top_p=0").sentence


WARM = ["--prompt=the cat", "--max_new_tokens=12", "--temperature=1.5"]


def test_many_texts_are_those_of_their_seeds_and_training_reads_them(desk, unchanged, tmp_path):
    samples, figures = tmp_path / "samples.jsonl", tmp_path / "figures.json"
    arguments = ["tools.generate", f"--model={desk}/model", *WARM, "--seed=3", f"--out={samples}"]
    outcome = call(*arguments, "--count=5", "--batch_size=2", f"--json={figures}")
    assert outcome.status == 0 and outcome.out == "", outcome.err
    records = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    alone = [generated(desk, *WARM, f"--seed={3 + i}") for i in range(5)]
    assert [record["text"] for record in records] == [one["text"] for one in alone]
    assert len({one["text"] for one in alone}) == 5
    found = json.loads(figures.read_text())
    assert found["texts"] == 5 and found["prompt_tokens"] == alone[0]["prompt_tokens"]
    assert found["new_tokens"] == sum(one["new_tokens"] for one in alone)

    stage = [f"--config.model={desk}/model", f"--config.data.train={samples}", "--config.steps=1"]
    stage += ["--config.seq_len=8", "--config.batch_size=8", f"--config.out={tmp_path}/run"]
    outcome = call("maxlite.train", "--config=continue.py", *stage, "--dry_run")
    assert outcome.status == 0 and "5 documents" in outcome.err, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures.json", "samples.jsonl"]


def test_how_many_at_a_time_does_not_matter(desk, unchanged, tmp_path):
    arguments = ["tools.generate", f"--model={desk}/model", *WARM, "--count=4"]
    for size in (3, 9):
        outcome = call(*arguments, f"--batch_size={size}", f"--out={tmp_path}/{size}.jsonl")
        assert outcome.status == 0, outcome.err
    assert len(set(snapshot(tmp_path).values())) == 1


def test_several_prompts_are_continued_together(desk, unchanged, tmp_path):
    said = ["the cat", "", "my old friend likes the garden"]
    prompts = [f"--prompt={prompt}" for prompt in said]
    alone = [generated(desk, prompt, "--max_new_tokens=12") for prompt in prompts]
    arguments = ["tools.generate", f"--model={desk}/model", *prompts, "--max_new_tokens=12"]
    outcome = call(*arguments, f"--json={tmp_path}/f.json")
    assert outcome.status == 0, outcome.err
    assert outcome.out == "\n\n".join(one["text"] for one in alone) + "\n"
    assert json.loads((tmp_path / "f.json").read_text()) == {"texts": alone}
    texts = tmp_path / "x.jsonl"
    warm = ["--count=2", "--temperature=1.5", "--batch_size=4", f"--out={texts}"]
    assert call(*arguments, *warm).status == 0
    found = [json.loads(line)["text"] for line in texts.read_text("utf-8").splitlines()]
    warm = [f"--prompt={said[1]}", "--max_new_tokens=12", "--temperature=1.5", "--seed=3"]
    assert len(found) == 6 and found[3] == generated(desk, *warm)["text"]
    sentence = call(*arguments, "--max_new_tokens=120").sentence
    assert "are more than the model's context of 128" in sentence


def test_one_text_may_go_to_a_file_too(desk, unchanged, tmp_path):
    greedy = ["--prompt=the cat", "--max_new_tokens=12"]
    outcome = call("tools.generate", f"--model={desk}/model", *greedy, f"--out={tmp_path}/x.jsonl")
    assert outcome.status == 0 and outcome.out == "", outcome.err
    text = generated(desk, *greedy)["text"]
    assert (tmp_path / "x.jsonl").read_text("utf-8") == (
        json.dumps({"text": text}, ensure_ascii=False) + "\n"
    )


def test_many_texts_that_cannot_be_written_are_not_sampled(desk, unchanged, tmp_path):
    (tmp_path / "mine.jsonl").write_text("mine")
    before = snapshot(tmp_path)
    arguments = ["tools.generate", f"--model={desk}/model", *WARM]
    for more, words in (
        (["--count=3"], ["--count=3", "--out"]),
        (
            ["--count=3", "--temperature=0", f"--out={tmp_path}/x.jsonl"],
            ["greedy", "--temperature"],
        ),
        (["--count=3", f"--out={tmp_path}/mine.jsonl"], [f"{tmp_path}/mine.jsonl", "--overwrite"]),
        (["--count=3", f"--out={tmp_path}/x.txt"], [f"{tmp_path}/x.txt", ".jsonl"]),
        (
            ["--count=3", f"--out={tmp_path}/no/x.jsonl"],
            ["/no/x.jsonl", "a folder that does not exist"],
        ),
        (["--count=0", f"--out={tmp_path}/x.jsonl"], ["--count"]),
        (["--count=3", "--batch_size=0", f"--out={tmp_path}/x.jsonl"], ["--batch_size"]),
        (["--count=3", "--top_p=0", f"--out={tmp_path}/x.jsonl"], ["top_p"]),
        (["--count=3", "--max_new_tokens=128", f"--out={tmp_path}/x.jsonl"], ["128", "context"]),
    ):
        sentence = call(*arguments, *more).sentence
        assert all(word in sentence for word in words), sentence
    outcome = call(*arguments, "--count=3", f"--out={tmp_path}/x.jsonl", "--dry_run")
    assert outcome.status == 0, outcome.err
    assert snapshot(tmp_path) == before
    outcome = call(*arguments, "--count=2", f"--out={tmp_path}/mine.jsonl", "--overwrite")
    assert outcome.status == 0, outcome.err
    assert len((tmp_path / "mine.jsonl").read_text("utf-8").splitlines()) == 2


def test_sampling_that_is_stopped_leaves_no_file(desk, unchanged, tmp_path, monkeypatch):
    original, calls = Generator.several, []

    def struck(*arguments, **settings):
        calls.append(settings["seeds"])
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **settings)

    monkeypatch.setattr(Generator, "several", struck)
    arguments = [*WARM, "--count=6", "--batch_size=2", f"--out={tmp_path}/x.jsonl"]
    outcome = call("tools.generate", f"--model={desk}/model", *arguments)
    assert outcome.status == 143 and outcome.err.endswith("maxlite: terminated\n")
    assert calls == [[0, 1], [2, 3]] and not list(tmp_path.iterdir())


# --- evaluate ------------------------------------------------------------------------------------

FIGURES = {"bits_per_byte", "loss", "tokens", "bytes", "tokens_per_char"}


def evaluated(desk: Path, *arguments: str) -> tuple[dict, str]:
    figures = desk / "figures.json"
    outcome = call("tools.evaluate", f"--model={desk}/model", f"--json={figures}", *arguments)
    assert outcome.status == 0, outcome.err
    found = json.loads(figures.read_text())
    figures.unlink()
    return found, outcome.out


def test_evaluation_of_several_globs(desk, unchanged, tiny_text):
    both, table = evaluated(desk, f"--text={tiny_text}/*.txt,{tiny_text}/en.*", "--documents=50")
    names = [str(tiny_text / name) for name in ("en.txt", "xx.txt", "en.jsonl")]
    assert [file["name"] for file in both["files"]] == names
    assert set(both) >= {"files", "groups", "total"} and set(both["total"]) >= FIGURES
    assert all(set(file) >= {"name", *FIGURES} for file in both["files"])
    for name in (*names, "total"):
        assert name in table
    total = both["total"]
    for key in ("tokens", "bytes"):
        assert total[key] == sum(file[key] for file in both["files"])
    nats = sum(file["loss"] * file["tokens"] for file in both["files"])
    assert total["loss"] == pytest.approx(nats / total["tokens"])

    alone, _ = evaluated(desk, f"--text={tiny_text}/xx.txt", "--documents=50")
    assert alone["files"][0] == both["files"][1]
    raw = (tiny_text / "xx.txt").read_text(encoding="utf-8").splitlines()
    whole, _ = evaluated(desk, f"--text={tiny_text}/xx.txt")
    assert whole["total"]["bytes"] == sum(len(line.encode()) for line in raw)


def test_windows_do_not_change_what_is_counted(desk, unchanged, tiny_text, tmp_path):
    (tmp_path / "long.txt").write_text(" ".join((tiny_text / "en.txt").read_text().split()[:400]))
    text = f"--text={tmp_path}/long.txt"
    found = [
        evaluated(desk, text, "--txt=file", *more)[0]["total"]
        for more in ([], ["--seq_len=64"], ["--seq_len=64", "--stride=8"])
    ]
    assert len({(f["tokens"], f["bytes"], f["tokens_per_char"]) for f in found}) == 1
    assert found[0]["tokens"] > 3 * 128
    assert len({f["loss"] for f in found}) == 3
    assert "128" in call("tools.evaluate", f"--model={desk}/model", text, "--seq_len=129").sentence
