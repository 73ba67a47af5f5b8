"""A model card says what the runs tell and nothing else, in a form that the hub reads."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from past_runs import past_run

import maxlite
from maxlite.card import card, carded
from maxlite.config import Architecture
from maxlite.hf import metadata
from maxlite.lineage import Scores, stages
from maxlite.state import origin
from maxlite.state.run import RunFolder
from maxlite.state.source import ModelSource
from maxlite.transforms import Lora

COMMIT = "0123456789abcdef" * 2 + "01234567"
HUB = {"model": "org/base", "commit": COMMIT}
SHAPE = Architecture(
    vocab_size=50,
    hidden_size=16,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=2,
)


def source(note: dict | None = None, files: tuple[str, ...] = (), **more) -> ModelSource:
    held = dict.fromkeys(("config.json", *files), b"")
    return ModelSource("here", SHAPE, {}, {"a": "bfloat16"}, held, metadata=note or {}, **more)


def run(folder: Path, model: str = "", scored: dict | None = None, **more) -> RunFolder:
    """A run that has trained from `model`, with lines of metrics.jsonl before the others."""
    past_run(folder, **more)
    said = json.loads((folder / "run.json").read_text())
    said["config"]["model"] = model
    (folder / "run.json").write_text(json.dumps(said))
    if scored:
        lines = (folder / "metrics.jsonl").read_text()
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 0, **scored}) + "\n" + lines)
    return RunFolder(folder)


@pytest.fixture
def chain(tmp_path) -> tuple[RunFolder, ModelSource]:
    """Two stages after an extension: the first measured before it began, the second not."""
    base = metadata.noted(
        {"base": HUB, "vocabulary": {"base_rows": 40, "rows": 50, "input_init": "mean"}},
        "extend_vocab",
        {"tokenizer": "/some/where/new-tokenizer", "input_init": "mean"},
    )
    first = run(tmp_path / "first", "/gone/model", {"eval/korean/bits_per_byte": 9.5}, steps=10)
    note = origin.notes(first, 10, base)
    return run(tmp_path / "second", str(first.path)), source(note)


def written(source: ModelSource, run: RunFolder, step: int = 20) -> str:
    return card(source, origin.notes(run, step, source.metadata), run, "korean-model")


def front(text: str, tmp_path: Path) -> dict:
    """What the hub reads of a card."""
    (tmp_path / "README.md").write_text(text)
    return huggingface_hub.metadata_load(tmp_path / "README.md")


def test_every_figure_of_a_chain_is_there(chain, tmp_path):
    text = written(chain[1], chain[0])
    assert front(text, tmp_path) == {
        "base_model": "org/base",
        "library_name": "transformers",
        "license": "unknown",
        "pipeline_tag": "text-generation",
        "tags": ["maxlite"],
    }
    assert "# korean-model\n\nBuilt on [org/base](https://huggingface.co/org/base)" in text
    assert f"/tree/{COMMIT}" in text and f"maxlite {maxlite.__version__}" in text
    assert "| vocabulary | 50 rows; 40 before its last extension (new rows began: input by" in text
    assert "1. Its vocabulary was extended (`extend_vocab`: tokenizer `new-tokenizer`" in text
    assert "/some/where" not in text and str(tmp_path) not in text
    assert "2. Stage `first`:" in text and "3. Stage `second`:" in text
    assert "10 of 20 steps of 8 x 8 tokens: 640 tokens" in text
    assert "   - 20 steps of 8 x 8 tokens: 1,280 tokens" in text
    assert "In all 1,920 tokens (1.92k) in 2 stages" in text
    assert "learning rate 0.001 (cosine, warm-up 0.03), weight decay 0.1" in text
    assert "text, by weight: a.txt 1; shares read were not measured" in text
    assert "| `first` | korean | 9.5000 | 3.0000 | 10 |" in text
    assert "| `second` | korean | not measured | 2.0000 | 20 |" in text
    assert written(chain[1], chain[0]) == text


def test_what_trained_and_what_was_read_are_measured_figures(tmp_path):
    frozen = {"origin": "/gone", "step": -1, "identity": {}, "steps": []}
    trained = ["model.embed_tokens.weight[40:50]", "lm_head.weight[40:50]"]
    read = {"data/korean/share": 0.875, "data/english/share": 0.125, "data/korean/epochs": 1.0}
    given = {"base": frozen, "trained": trained, "bits": None}
    one = run(tmp_path / "run", "/gone/model", read, **given)
    (stage,) = stages(origin.notes(one, 20, {})["history"], one)
    assert stage.trained == 2 * 10 * 16 and stage.parameters > 5000
    assert stage.read == {"korean": 0.875, "english": 0.125} and not stage.scores
    text = written(source(), one)
    assert f"320 trained ({320 / stage.parameters:.2%})" in text
    assert "text, by tokens read: korean 87.5%, english 12.5%" in text
    assert "Not measured in `run`." in text


def test_later_lines_than_the_exported_step_do_not_count(tmp_path):
    one = run(tmp_path / "run")
    (stage,) = stages(origin.notes(one, 10, {})["history"], one)
    assert stage.scores == {"korean": Scores(None, 3.0, 10)}


def test_a_run_that_is_gone_or_another_is_not_told_of(chain, tmp_path):
    first = tmp_path / "first" / "run.json"
    for change in ({"seed": 9}, None):
        if change:
            said = json.loads(first.read_text())
            said["config"] |= change
            first.write_text(json.dumps(said))
        else:
            first.unlink()
        text = written(chain[1], chain[0])
        assert "2. A stage of training:" in text and "`first`" not in text
        assert "640 tokens" in text and "learning rate 0.001\n" in text
        assert "Of 1 stage the run was not here" in text
        assert "| `first` |" not in text and "| `second` |" in text


@pytest.mark.parametrize(
    ("base", "files", "matter", "said"),
    [
        (HUB | {"license": "mit"}, (), {"license": "mit"}, "names the licence `mit`."),
        (
            HUB | {"license": "other", "license_name": "moon", "license_link": "LICENSE"},
            ("LICENSE", "NOTICE.txt"),
            {"license": "other", "license_name": "moon", "license_link": "LICENSE"},
            "`other` (moon). Files of the base that hold for this model too: [LICENSE](LICENSE),"
            " [NOTICE.txt](NOTICE.txt).",
        ),
        (
            HUB | {"license": "other", "license_link": "TERMS.md"},
            (),
            {
                "license": "other",
                "license_link": f"https://huggingface.co/org/base/blob/{COMMIT}/TERMS.md",
            },
            f"Its text: https://huggingface.co/org/base/blob/{COMMIT}/TERMS.md\n",
        ),
        (
            {"model": "folder", "license": "other", "license_link": "TERMS.md"},
            (),
            {"license": "other"},
            "names the licence `other`.\n",
        ),
        (
            {"model": "folder"},
            ("LICENSE.txt",),
            {"license": "other", "license_link": "LICENSE.txt"},
            "without a model card that names its licence. Files of the base",
        ),
        ({"model": "folder"}, (), {"license": "unknown"}, "The licence of the base is unknown"),
        ({}, (), {"license": "unknown"}, "No licence is known."),
    ],
)
def test_a_licence_is_carried_over_or_said_to_be_unknown(tmp_path, base, files, matter, said):
    one = run(tmp_path / "run", "/gone/model")
    text = written(source({"base": base} if base else {}, files), one)
    found = front(text, tmp_path)
    assert {key: value for key, value in found.items() if key.startswith("license")} == matter
    assert found.get("base_model") == ("org/base" if "commit" in base else None)
    assert said in text


def test_where_it_comes_from_is_said_as_far_as_it_is_known(tmp_path):
    one = run(tmp_path / "run")
    assert "Trained from random weights" in written(source(), one)
    folder = source({"base": {"model": "my-llama"}})
    assert "a local folder named `my-llama`" in written(folder, one)
    older = source(metadata.noted({}, "untie", {}))
    assert "What it was built on is not known" in written(older, one)


def test_layers_and_adapters(tmp_path):
    one = run(tmp_path / "run", "/gone/model")
    layers = {"sources": [["a/b", 0], ["a/b", 1]], "inserted": [1]}
    model = source({"layers": layers})
    model.architecture.lora = Lora(rank=8)
    text = written(model, one)
    model.architecture.lora = Lora()
    assert "layers b:0, b:1 (counted from 0)" in text and "| inserted layers | 1 |" in text
    assert "Adapters of rank 8" in text


def test_it_is_one_more_file_of_the_model(chain):
    with_card = carded(chain[1], {}, chain[0], "model", "float16")
    assert b"| stored as | float16 |" in with_card.files["README.md"]
    assert set(with_card.files) - set(chain[1].files) == {"README.md"}
