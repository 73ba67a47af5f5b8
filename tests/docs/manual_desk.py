"""A folder that holds what the pages name, all of it tiny."""

import contextlib
import json
import shutil
from pathlib import Path

import extended
import manual
import past_recipe
from commands import ROOT, call, done

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "Q: {{ message['content'] }}\nA:{% else %} {{ message['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
MODELS = ("my-llama", "llama", "large", "stories260K")
RUNS = ("korean", "one", "stage1", "A", "B")


def lay(here: Path, make_folder, tiny_text: Path, tiny_tokenizer: Path) -> Path:
    """Makes models, tokenizers, text and a run under the names that pages use for them.

    Relative paths in the run are those of a user who works in this folder, so it can be copied.
    """
    _text(here, tiny_text)
    _models(here, make_folder, tiny_tokenizer)
    _tasks(here)
    _figures(here)
    shutil.copytree(here / "models/base", here / "launch/demo/base")
    (here / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.md", here / "docs")
    return here


def _text(here: Path, tiny_text: Path) -> None:
    korean = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    english = (tiny_text / "en.txt").read_text("utf-8").splitlines()
    korean = [f"{a} {b} {c}" for a, b, c in zip(korean, korean[1:], korean[2:], strict=False)]
    for folder, lines in (
        ("text", korean),
        ("text/korean", korean),
        ("text/ko", korean),
        ("text/check", korean[:20]),
        ("text/held-out", english[:20]),
        ("text/stories", english[20:40]),
        ("text/en", english),
        ("raw", korean),
    ):
        (here / folder).mkdir(parents=True, exist_ok=True)
        (here / folder / "a.txt").write_text("\n".join(lines) + "\n", "utf-8")
        records = [json.dumps({"text": line}, ensure_ascii=False) for line in lines]
        (here / folder / "a.jsonl").write_text("\n".join(records) + "\n", "utf-8")
    _compress(here / "raw" / "a.jsonl")
    shutil.copy(here / "text/stories/a.jsonl", here / "text/news.jsonl")
    (here / "runs/demo/text").mkdir(parents=True)
    shutil.copy(here / "text/a.txt", here / "runs/demo/text/korean.txt")
    shutil.copy(here / "text/en/a.txt", here / "runs/demo/text/english.txt")
    shutil.copy(here / "text/a.txt", here / "text/reviews.txt")
    (here / "names.txt").write_text("강산\n", "utf-8")
    (here / "chats").mkdir()
    pairs = [{"instruction": line[:20], "output": line[20:40]} for line in english[:60]]
    (here / "chats" / "a.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n")


def _compress(file: Path) -> None:
    import zstandard

    packed = zstandard.ZstdCompressor().compress(file.read_bytes())
    file.with_name(f"{file.name}.zst").write_bytes(packed)
    file.unlink()


def _models(here: Path, make_folder, tiny_tokenizer: Path) -> None:
    base = make_folder(here / "models/base", num_hidden_layers=3, max_position_embeddings=512)
    for name in MODELS:
        shutil.copytree(base, here / "models" / name)
    shutil.copytree(base, here / "models" / "my-llama-chat")
    (here / "models/my-llama-chat/chat_template.jinja").write_text(TEMPLATE)
    shutil.copytree(tiny_tokenizer, here / "models" / "compact")
    extended.extend(tiny_tokenizer, here / "tokenizers/korean", 57)
    extended.extend(tiny_tokenizer, here / "tokenizers/other", 60)
    arguments = [f"--model={base}", f"--tokenizer={here}/tokenizers/korean"]
    done(call("tools.extend_vocab", *arguments, f"--out={here}/models/wider"))
    shutil.copytree(here / "models/wider", here / "models/solar-korean")
    small = json.loads((base / "config.json").read_text())
    small |= {"num_hidden_layers": 2, "intermediate_size": 24}
    (here / "small").mkdir()
    (here / "small" / "config.json").write_text(json.dumps(small))


def _tasks(here: Path) -> None:
    (here / "tasks").mkdir()
    lines = [{"start": "the cat", "ends": ["sees", "a red boat"], "right": i % 2} for i in range(4)]
    data = here / "tasks" / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, lines)) + "\n")
    task = {
        "task": "my_task",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{start}}",
        "doc_to_choice": "ends",
        "doc_to_target": "right",
        "metric_list": [{"metric": "acc"}],
    }
    (here / "tasks" / "my_task.yaml").write_text(json.dumps(task))  # JSON is YAML


def _figures(here: Path) -> None:
    """As a benchmark's --json writes them."""
    told = {"verb": "train", "command": "x", "date": "2026-01-02", "hardware": "a CPU, 2 cores"}
    row = {"name": "full 24M", "ours": 1.0, "peer": 1.0, "ratio": 1.0, "unit": "tokens/s"}
    row |= {"runs": 3, "peak_mib": 1.0, "measured": told | {"versions": {"jax": "1.2"}}}
    (here / "measured.json").write_text(json.dumps([row]))


def laid_and_run(here: Path, make_folder, tiny_text: Path, tiny_tokenizer: Path) -> Path:
    """What `lay` makes, with runs."""
    lay(here, make_folder, tiny_text, tiny_tokenizer)
    with contextlib.chdir(here):
        _run_once(here)
    return here


def type_all(page: Path, laid: Path, desk: Path) -> None:
    """Types the commands of a page, in order, in a copy of what was laid."""
    several = manual.commands(page)
    shutil.copytree(laid, desk)
    without(desk, manual.made(several))
    with contextlib.chdir(desk):
        for each in several:
            manual.enter(each)


def _run_once(here: Path) -> None:
    """Trains two steps, in the folder, and gives the run all the names that pages have for one."""
    keys = {"model": "models/base", "data.train": "text/korean/*.txt", "out": f"runs/{RUNS[0]}"}
    keys |= {"steps": 2, "batch_size": 8, "seq_len": 32}
    keys |= {"eval.documents": 4, "eval.sample_tokens": 2, "log.every": 1}
    arguments = [f"--config.{key}={value}" for key, value in keys.items()]
    done(call("maxlite.train", "--config=continue.py", *arguments))
    for name in RUNS[1:]:
        shutil.copytree(here / "runs" / RUNS[0], here / "runs" / name)


def run_recipe(here: Path, elsewhere: Path, make_folder, tiny_text, tiny_tokenizer) -> None:
    """Does a whole recipe, and gives it the names that pages have for one."""
    past = past_recipe.run(past_recipe.lay(elsewhere, make_folder, tiny_text, tiny_tokenizer))
    for name in ("runs/mine", "runs/demo/recipe"):
        shutil.copytree(past, here / name)


def without(here: Path, paths: set[str]) -> None:
    """Takes away what a page's own commands make."""
    for path in sorted(paths):
        target = here / path
        if target.is_dir():
            shutil.rmtree(target)
        elif target.exists():
            target.unlink()
