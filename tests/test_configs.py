"""The stage files in configs/: each loads, plans, claims what its paper says, and trains."""

import json
import re
import shutil
from pathlib import Path

import jax
import pytest
from commands import call, metrics, status
from extended import extend
from frozen import check_moved

from maxlite import flags
from maxlite.data.chat_templates import NAMED
from maxlite.model.leaves import leaf
from maxlite.parameters import EMBEDDING, HEAD, LAYERS
from maxlite.plan import plan
from maxlite.transforms import AddLora

CONFIGS = flags._HERE / "configs"
FILES = sorted(  # without those of cleanings and recipes
    str(path.relative_to(CONFIGS))
    for path in CONFIGS.rglob("*.py")
    if "-> Config:" in path.read_text("utf-8")
)
EEVE, LLAMA = 10_804_924_416, 6_885_486_592

# file: parameters of the paper's shape without adapters (0: it has none), and what trains: rows of
# the tables (None: not at all) and layers (a slice, or LORA)
LORA = "adapters"
STAGES = {
    "continue.py": (0, (0, None), (0, None), slice(None)),
    "pretrain.py": (0, (0, None), None, slice(None)),
    "stage1.py": (0, (32_000, None), (32_000, None), None),
    "stage2.py": (0, (0, None), (0, None), LORA),
    "sft.py": (0, (0, None), (0, None), slice(None)),
    "eeve/stage1.py": (EEVE, (32_000, None), None, None),
    "eeve/stage2.py": (EEVE, None, (32_000, None), None),
    "eeve/stage3.py": (EEVE, (32_000, None), (32_000, None), None),
    "eeve/stage4.py": (EEVE, None, (0, None), None),
    "eeve/stage5.py": (EEVE, (32_000, None), (0, None), None),
    "eeve/stage6.py": (EEVE, None, None, LORA),
    "eeve/stage7.py": (EEVE, None, None, slice(None)),
    "kosolar/stage1.py": (EEVE, (32_000, None), (0, None), None),
    "chinese_llama/pretrain1.py": (LLAMA, (0, None), None, None),
    "chinese_llama/pretrain2.py": (LLAMA, (0, None), (0, None), LORA),
    "chinese_llama/plus.py": (LLAMA, (0, None), (0, None), LORA),
    "chinese_llama/sft.py": (LLAMA, (0, None), (0, None), LORA),
    "redwhale/tables.py": (0, (0, None), (0, None), None),
    "redwhale/odd.py": (0, None, None, slice(1, None, 2)),
    "redwhale/even.py": (0, None, None, slice(0, None, 2)),
    "redwhale/lora.py": (0, None, None, LORA),
    "solar/continue.py": (10_731_524_096, (0, None), (0, None), slice(None)),
    "llama_pro/continue.py": (8_357_482_496, None, None, slice(4, None, 5)),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_tokenizer, tiny_text) -> Path:
    """A folder with model/, four layers and ten new rows of which it knows, and text/.

    The model has a chat template.
    """
    here = tmp_path_factory.mktemp("desk")
    folder = make_folder(
        here / "model",
        dtype="bfloat16",
        vocab_size=410,
        num_hidden_layers=4,
        max_position_embeddings=256,
        tokenizer="",
    )
    for file in extend(tiny_tokenizer, here / "tokenizer", 10).iterdir():
        file.rename(folder / file.name)
    note = {"vocabulary": {"base_rows": 400}, "layers": {"inserted": [3]}}
    (folder / "maxlite.json").write_text(json.dumps(note))
    (here / "text").mkdir()
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()[:60]
    (here / "text" / "xx.txt").write_text("\n".join(lines), "utf-8")
    (folder / "chat_template.jinja").write_text(NAMED["llama2"])
    chats = [{"instruction": line, "output": line[::-1]} for line in lines]
    (here / "text" / "chats.json").write_text(json.dumps(chats), "utf-8")
    return here


def trained(planned) -> dict[str, list[int]]:
    """Rows of axis 0 that train, by parameter."""
    found: dict[str, list[int]] = {}
    for own in map(leaf, planned.claims.trained):
        found.setdefault(own.parameter, []).extend(own.taken(planned.claims.whole[own.parameter]))
    return found


def test_every_file_is_known_here():
    assert list(STAGES) and sorted(STAGES) == FILES


@pytest.mark.parametrize("file", STAGES)
def test_a_stage_trains_what_its_paper_says(file, desk):
    more = {one: [f"--config.model={desk}/model"] for one in ("continue.py", "sft.py")}
    more["pretrain.py"] = ["--config.architecture.vocab_size=400"]
    config, _ = flags.parse([f"--config={file}", *more.get(file, ())])
    assert not (config.out or config.export or config.data.train)
    assert [type(one) for one in config.init] == [AddLora] * (STAGES[file][3] == LORA)
    assert not (config.data.eval or config.data.tokenizer)
    planned = plan(config)
    parameters, inputs, outputs, layers = STAGES[file]
    sizes = planned.sizes.items()
    assert sum(n for name, n in sizes if ".lora_" not in name) == parameters or not parameters
    rows, depth = planned.architecture.vocab_size, planned.architecture.num_hidden_layers
    found = trained(planned)
    for name, part in ((EMBEDDING, inputs), (HEAD, outputs)):
        expected = list(range(rows)[slice(*part)]) if part else None
        assert found.pop(name, None) == expected
    if layers == LORA:
        wanted = set(config.init[0].targets.split(","))
        assert {name.split(".lora_")[0].rpartition(".")[2] for name in found} == wanted
        assert all(taken == list(range(depth)) for taken in found.values())
        return
    found.pop("model.norm.weight", None)
    expected = list(range(depth)[layers]) if layers else None
    assert bool(found) == bool(expected)
    for name, taken in found.items():
        assert name.startswith(LAYERS) and sorted(taken) == expected
    in_layers = [name for name in planned.claims.whole if name.startswith(LAYERS)]
    assert not found or set(found) == set(in_layers)


def test_the_figures_of_the_papers():
    def planned(file):
        return plan(flags.parse([f"--config={file}"])[0])

    for name, share in (
        ("pretrain1", "2.97%"),
        ("pretrain2", "6.06%"),
        ("plus", "6.22%"),
        ("sft", "6.22%"),
    ):
        figures = planned(f"chinese_llama/{name}.py").figures()
        assert f"{figures['trainable_share']:.2%}" == share
    kosolar, eeve = planned("kosolar/stage1.py"), planned("eeve/stage5.py")
    assert kosolar.claims.trained == eeve.claims.trained and kosolar.figures() == eeve.figures()
    odd, even = trained(planned("redwhale/odd.py")), trained(planned("redwhale/even.py"))
    assert {n: sorted(odd[n] + even[n]) for n in odd} == {n: list(range(48)) for n in odd}
    assert planned("redwhale/tables.py").architecture.vocab_size == 49_072


def test_a_short_name_finds_its_file():
    def found(name):
        return str(flags.find_config(name).relative_to(CONFIGS))

    assert found("continue.py") == "continue.py" and found("stage1.py") == "stage1.py"
    assert found("stage5.py") == "eeve/stage5.py" and found("odd.py") == "redwhale/odd.py"
    assert found("kosolar/stage1.py") == "kosolar/stage1.py"


def test_plans_of_a_recipe_are_made_at_once(tmp_path):
    names = ",".join(f"eeve/stage{n}.py" for n in range(1, 8))
    outcome = call("maxlite.plan", f"--config={names}", f"--json={tmp_path / 'p.json'}")
    assert outcome.status == 0, outcome.err
    stages = json.loads((tmp_path / "p.json").read_text())
    adapted = EEVE + 48 * 64 * 81_920  # stage 6 has adapters of rank 64 beside every projection
    assert [stage["parameters"] for stage in stages] == [*[EEVE] * 5, adapted, EEVE]
    assert f"all 7 (of {EEVE:,}, {adapted:,} parameters)" in outcome.out


@pytest.mark.parametrize("file", STAGES)
def test_files_are_short_and_name_their_source(file):
    text = (CONFIGS / file).read_text("utf-8")
    assert len(text.splitlines()) <= 60
    general = "/" not in file
    assert general or re.search(r"arXiv \d{4}\.\d{5}", text)
    assert general or "default of ours" in text


@pytest.fixture
def compiled_fast():
    """Leaves out most of what a compiler does for speed: each stage runs two steps."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def allowed(file: str):
    """What a stage may move of the model in `desk`."""
    _, inputs, outputs, layers = STAGES[file]
    tables = {EMBEDDING: inputs, HEAD: outputs}

    def rows(name: str):
        number = int(name.split(".")[2]) if name.startswith(LAYERS) else None
        if name in tables:
            start = tables[name] and min(tables[name][0], 400)  # where its new rows begin
            return None if start is None else range(start, 410)
        if layers in (None, LORA) or (file == "llama_pro/continue.py" and number is None):
            return None
        chosen = slice(3, 4) if file == "llama_pro/continue.py" else layers
        whole = chosen.step is None
        return range(999) if (whole if number is None else number in range(4)[chosen]) else None

    return rows


@pytest.mark.parametrize("file", [file for file in STAGES if file != "pretrain.py"])
def test_what_a_stage_freezes_keeps_every_byte(file, desk, tmp_path, compiled_fast):
    """On eight devices, with decay, clipping that bites, accumulation and a resume."""
    given = {"model": desk / "model", "data.train": desk / "text/xx.txt", "data.eval": ""}
    given["seq_len"] = 16
    given |= {"out": tmp_path / "run", "export": tmp_path / "better", "export_dtype": "float32"}
    if file.endswith("sft.py"):
        given |= {"data.train": desk / "text/chats.json", "seq_len": 256}
    given |= {"batch_size": 24, "accumulate": 3, "log.every": 1, "eval.every": 0}
    given |= {"optimizer.weight_decay": 0.1, "optimizer.clip": 0.02, "optimizer.warmup": 0}
    given |= {"optimizer.schedule": "constant", "optimizer.learning_rate": 1e-2}
    for steps in (2, 3):
        arguments = [f"--config.{key}={value}" for key, value in (given | {"steps": steps}).items()]
        outcome = call("maxlite.train", f"--config={file}", *arguments)
        assert outcome.status == 0, outcome.err
        assert status(tmp_path / "run")["status"] == "finished"
        shutil.move(tmp_path / "better", tmp_path / f"after-{steps}")
    assert "resumed from step 2" in outcome.err
    lines = [entry for entry in metrics(tmp_path / "run") if "loss" in entry]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["grad_norm"] > 0.02 for line in lines)
    adapted = tmp_path / "run" if STAGES[file][3] == LORA else None
    check_moved(desk / "model", tmp_path / "after-3", allowed(file), adapted)


def test_a_random_model_trains(desk, tmp_path, compiled_fast):
    given = {"data.tokenizer": desk / "model", "data.train": desk / "text/xx.txt"}
    given |= {"out": tmp_path / "run", "steps": 2, "batch_size": 8, "seq_len": 16}
    given |= {"architecture.hidden_size": 32, "architecture.intermediate_size": 48}
    arguments = [f"--config.{key}={value}" for key, value in given.items()]
    outcome = call("maxlite.train", "--config=pretrain.py", *arguments)
    assert outcome.status == 0, outcome.err


def test_what_the_user_must_give_is_named(desk):
    text = f"--config.data.train={desk}/text/xx.txt"
    for file in STAGES:
        assert "'out' is empty" in call("maxlite.train", f"--config={file}", text).sentence
