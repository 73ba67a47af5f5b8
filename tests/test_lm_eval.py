"""Tasks of lm-evaluation-harness through our adapter, beside its own backend for transformers.

`pip install -e '.[eval]'` brings the harness; where it is not, these tests are skipped.
"""

import json
import shutil
import sys
from functools import partialmethod
from pathlib import Path

import local_hub
import numpy as np
import pytest
from commands import call, done, refused

from maxlite.errors import InputError

TASKS = {
    "choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{start}}",
        "doc_to_choice": "ends",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "letters": {
        "output_type": "multiple_choice",
        "fewshot_split": "test",
        "num_fewshot": 1,
        "doc_to_text": "{{start}}?",
        "doc_to_choice": ["the", "a", "our"],
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{start}} {{ends|join(' ')}} {{start}} {{ends|join(' ')}} {{start}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    },
    "text": {
        "output_type": "generate_until",
        "doc_to_text": "{{start}}",
        "doc_to_target": "{{ends[0]}}",
        "generation_kwargs": {"until": ["a", "\n"], "max_gen_toks": 20, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}
SETTINGS = {"dataset_path": "json", "test_split": "test"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """model/, and tasks/ with their data."""
    pytest.importorskip("lm_eval", reason="pip install -e '.[eval]' brings lm_eval")
    from lm_eval.tasks import TaskManager

    patch = pytest.MonkeyPatch()
    # To read all that the harness has takes seconds, each time.
    few_tasks = partialmethod(TaskManager.__init__, include_defaults=False)
    patch.setattr(TaskManager, "__init__", few_tasks)
    here, cache = tmp_path_factory.mktemp("harness"), tmp_path_factory.mktemp("cache")
    patch.setenv("HF_HOME", str(cache))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    make_folder(here / "model", scale=0.5)
    (here / "tasks").mkdir()
    rng = np.random.default_rng(0)
    lines = (tiny_text / "en.txt").read_text().splitlines()
    with (here / "tasks" / "data.jsonl").open("w") as f:
        for i in range(24):
            words = lines[i].split()
            half, ends = len(words) // 2, lines[100 + i : 102 + i]
            right = int(rng.integers(3))
            ends.insert(right, " ".join(words[half:]))
            start = " ".join(words[:half])
            f.write(json.dumps({"start": start, "ends": ends, "right": right}) + "\n")
    files = {"data_files": {"test": str(here / "tasks" / "data.jsonl")}}
    for name, task in TASKS.items():
        task = {"task": f"our_{name}", "dataset_kwargs": files, **SETTINGS, **task}
        (here / "tasks" / f"{name}.yaml").write_text(json.dumps(task))  # JSON is YAML
    (here / "tasks" / "both.yaml").write_text('{"group": "our_both", "task": ["our_choice"]}')
    yield here
    patch.undo()


def ask(desk, out, *flags, model="model"):
    """What the tool prints, its figures and the answers by task and question."""
    given = [f"--model={desk}/{model}", f"--include_path={desk}/tasks", "--bootstrap=0"]
    files = [f"--json={out}/figures.json", f"--samples={out}/samples.jsonl", "--overwrite"]
    outcome = done(call("tools.lm_eval", *given, *files, *flags))
    lines = map(json.loads, (out / "samples.jsonl").read_text().splitlines())
    answers = {(one["task"], one["doc_id"]): one["resps"] for one in lines}
    return outcome.out, json.loads((out / "figures.json").read_text()), answers


@pytest.fixture(scope="module")
def ours(desk, tmp_path_factory):
    names = ",".join(f"our_{name}" for name in TASKS)
    return ask(desk, tmp_path_factory.mktemp("ours"), f"--tasks={names}")


def test_the_harness_is_asked_for_where_it_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    sentence = call("tools.lm_eval", "--model=model", "--tasks=arc_easy").sentence
    assert (
        "lm-evaluation-harness is not here" in sentence and "pip install -e '.[eval]'" in sentence
    )


@pytest.fixture(scope="module")
def theirs(desk):
    """The harness's own backend on the same folder."""
    pytest.importorskip("torch")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(desk / "model"), dtype="float32", device="cpu", batch_size=4)


def test_it_is_what_the_harness_finds_with_transformers(desk, ours, theirs):
    """The same accuracy, likelihoods to 1e-3, the same texts."""
    from lm_eval import evaluator
    from lm_eval.tasks import TaskManager

    names = [f"our_{name}" for name in TASKS]
    expected = evaluator.simple_evaluate(
        model=theirs,
        tasks=names,
        task_manager=TaskManager(include_path=str(desk / "tasks")),
        bootstrap_iters=0,
    )
    _, figures, answers = ours
    compared = dict.fromkeys(names, 0)
    for name in names:
        for key in ("acc,none", "acc_norm,none", "bits_per_byte,none", "exact_match,none"):
            if key in expected["results"][name]:
                value = expected["results"][name][key]
                assert figures["results"][name][key] == pytest.approx(value, abs=1e-4)
        for sample in expected["samples"][name]:
            mine = answers[name, sample["doc_id"]]
            for (one,), (other,) in zip(mine, sample["resps"], strict=True):
                compared[name] += 1
                if isinstance(other, str):
                    assert one == other
                elif isinstance(other, float):
                    assert one == pytest.approx(other, abs=1e-3)
                else:
                    assert float(one[0]) == pytest.approx(float(other[0]), abs=1e-3)
                    assert str(one[1]) == str(other[1])
    assert list(compared.values()) == [72, 72, 24, 24]
    acc = figures["results"]["our_choice"]["acc,none"]
    assert 0 < acc < 1


def test_whatever_the_lengths(desk, theirs, tiny_text):
    """Beyond the context the beginning is left out; a text without a context stands behind BOS."""
    from lm_eval.api.instance import Instance

    from maxlite.harness import Harnessed
    from maxlite.state.ready import ready_model

    mine = Harnessed(ready_model(str(desk / "model")))
    text = (tiny_text / "en.txt").read_text()
    pairs = [(text[:n], f" the cat {n}") for n in (1, 7, 90, 500, 4000)]
    pairs += [("", "the moon"), ("the moon ", "rises"), ("the moon", " rises\n"), ("a", text[:300])]
    until = {"until": ["\n", "q"], "max_gen_toks": 12, "do_sample": False}

    def answers(model, method, asked):
        several = [Instance(method, {}, one, i) for i, one in enumerate(asked)]
        return getattr(model, method)(several)

    for one, other in zip(
        *(answers(model, "loglikelihood", pairs) for model in (mine, theirs)), strict=True
    ):
        assert one[0] == pytest.approx(other[0], abs=1e-3) and one[1] == other[1]
    for method, asked in (
        ("generate_until", [(before, until) for before, _ in pairs]),
        ("loglikelihood_rolling", [(text[:n],) for n in (1, 60, 3000)]),
    ):
        found, expected = (answers(model, method, asked) for model in (mine, theirs))
        assert found == (pytest.approx(expected, abs=1e-3) if method[0] == "l" else expected)
    bare = Harnessed(mine._ready, bos=False)
    assert mine.tok_encode("a cat") == [1, *bare.tok_encode("a cat")]
    (one, _), (other, _) = (answers(m, "loglikelihood", pairs[2:3])[0] for m in (mine, bare))
    assert abs(one - other) > 1e-3
    one, other = (answers(model, "loglikelihood", [("", "a")]) for model in (mine, bare))
    assert one == other
    with pytest.raises(InputError, match=r"how likely '' is after 'a cat', and .* writes no token"):
        mine._loglikelihood_tokens([(("a cat", ""), [1, 5], [])])


def test_what_is_told(ours):
    table, figures, answers = ours
    for name in TASKS:
        assert f"our_{name}" in table and f"our_{name}" in figures["results"]
    assert figures["step"] == -1 and figures["dtype"] == "float32"
    said = {str(answer) for (name, _), answer in answers.items() if name == "our_text"}
    assert len(said) > 3


def test_a_run_needs_no_export(desk, ours, tmp_path):
    done(call("tools.import_hf", f"--model={desk}/model", f"--out={desk}/run"))
    _, figures, answers = ask(desk, tmp_path, "--tasks=our_both,our_text", model="run")
    assert figures["step"] == 0 and figures["group_subtasks"]["our_both"] == ["our_choice"]
    assert {name for name, _ in answers} == {"our_choice", "our_text"}
    for key, answer in answers.items():
        assert answer == ours[2][key]
    _, figures, answers = ask(desk, tmp_path, "--tasks=our_text", "--limit=3", model="run")
    assert len(answers) == 3 and figures["n-samples"]["our_text"]["effective"] == 3


def test_fewer_new_tokens_and_more_examples(desk, ours, tmp_path):
    _, _, short = ask(desk, tmp_path, "--tasks=our_text", "--max_new_tokens=2", "--batch_size=1")
    whole = {key: ours[2][key] for key in short}
    for key, ((text,),) in short.items():
        assert whole[key][0][0].startswith(text)
    assert short != whole
    _, figures, _ = ask(desk, tmp_path, "--tasks=our_letters", "--num_fewshot=2")
    assert figures["n-shot"]["our_letters"] == 2


@pytest.fixture
def hub(desk, monkeypatch):
    """hub(address) is where data sets are downloaded; whether it was left alone comes to a list."""
    import datasets.config
    from huggingface_hub import constants
    from lm_eval.tasks import TaskManager

    alone = []

    def load(*arguments, original=TaskManager.load):
        alone.append(constants.HF_HUB_OFFLINE)
        return original(*arguments)

    def hub(address):
        for library in (constants, datasets.config):
            monkeypatch.setattr(library, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("datasets.config.HF_ENDPOINT", address)
        return alone

    monkeypatch.setattr(TaskManager, "load", load)
    yield hub
    assert not constants.HF_HUB_OFFLINE


def test_a_download_is_refused_at_once_where_the_hub_is_out_of_reach(desk, hub, monkeypatch):
    """Of one of the harness's own tasks."""
    from lm_eval.tasks import TaskManager

    all_tasks = partialmethod(TaskManager.__init__, include_defaults=True)
    monkeypatch.setattr(TaskManager, "__init__", all_tasks)
    alone = hub("http://127.0.0.1:9")
    sentence = refused(desk, "tools.lm_eval", f"--model={desk}/model", "--tasks=hellaswag")
    assert "--tasks=hellaswag needs a download" in sentence and "refused" in sentence
    assert alone == [True]


def test_what_the_hub_lacks_is_not_said_to_be_out_of_reach(desk, hub, tmp_path):
    task = json.loads((desk / "tasks" / "choice.yaml").read_text()) | {"dataset_path": "our/words"}
    del task["dataset_kwargs"]
    (tmp_path / "words.yaml").write_text(json.dumps(task))
    flags = [f"--model={desk}/model", f"--tasks={tmp_path}/words.yaml"]
    with local_hub.serve() as served:
        alone = hub(served.address)
        sentence = refused(desk, "tools.lm_eval", *flags)
    assert "words.yaml cannot be loaded" in sentence and "'our/words'" in sentence
    assert alone == [False]


def test_what_is_in_the_cache_needs_no_hub(desk, hub, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    task = json.loads((desk / "tasks" / "choice.yaml").read_text())
    made = datasets.load_dataset("json", **task.pop("dataset_kwargs"))
    (file,) = (Path(one["filename"]) for one in made.cache_files["test"])
    as_downloaded = tmp_path / "our___words" / "default" / "0.0.0" / file.parent.name
    shutil.copytree(file.parent, as_downloaded)
    (as_downloaded / file.name).rename(as_downloaded / "words-test.arrow")
    task |= {"task": "our_words", "dataset_path": "our/words"}
    (tmp_path / "words.yaml").write_text(json.dumps(task))
    hub("http://127.0.0.1:9")
    flags = [
        f"--model={desk}/model",
        f"--tasks={tmp_path}/words.yaml",
        "--limit=2",
        "--bootstrap=0",
    ]
    assert "our_words" in done(call("tools.lm_eval", *flags)).out


def test_what_cannot_be_asked(desk, tmp_path):
    def sentence(*flags, model="model"):
        given = [f"--model={desk}/{model}", f"--include_path={desk}/tasks"]
        return refused(desk, "tools.lm_eval", *given, *flags)

    assert "--tasks must be given" in call("tools.lm_eval", f"--model={desk}/model").sentence
    assert "is our_choice meant" in sentence("--tasks=our_choise")
    assert "is no folder" in sentence("--tasks=our_text", f"--include_path={desk}/nowhere")
    assert "must be a .jsonl file" in sentence("--tasks=our_text", "--samples=x.json")
    assert "leaves no room" in sentence("--tasks=our_text", "--max_new_tokens=500")
    task = json.loads((desk / "tasks" / "text.yaml").read_text())
    task["task"], task["generation_kwargs"]["num_beams"] = "our_beams", 4
    (tmp_path / "beams.yaml").write_text(json.dumps(task))
    assert "num_beams=4" in sentence(f"--tasks={tmp_path}/beams.yaml")
    shutil.copytree(desk / "model", tmp_path / "mute")
    for file in (tmp_path / "mute").glob("tokenizer*"):
        file.unlink()
    told = sentence("--tasks=our_text", f"--model={tmp_path}/mute")
    assert f"{tmp_path}/mute cannot be asked anything" in told
