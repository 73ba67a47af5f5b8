"""Instruction tuning as a user does it, and the same figures computed with `transformers`."""

import json
import math
import shutil

import pytest
from commands import call, metrics, status

from maxlite.data.chat_templates import NAMED

CONFIG = """
from maxlite.config import Config, Data, Eval, Log, Optimizer, Source

def get_config():
    return Config(
        model="{here}/model", out="{out}", export="{out}-export", steps=4, batch_size=8,
        seq_len=256, log=Log(every=1),
        data=Data(train=({sources}), eval=({held})),
        optimizer=Optimizer(learning_rate=1e-2, schedule="constant", warmup=0.0),
        eval=Eval(every=4, sample_tokens=0),
    )
"""
CHATS = 'Source("{here}/{file}.csv", template="{template}", field="Q,A"),'


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """model/, chats.csv of 48 pairs and one too long, held.csv of ten, and text.txt."""
    here = tmp_path_factory.mktemp("sft")
    make_folder(here / "model", scale=0.2, max_position_embeddings=1024)
    lines = (tiny_text / "en.txt").read_text("utf-8").splitlines()
    pairs = [f'"{a[:30]}","{b[:45]}"' for a, b in zip(lines[:48], lines[48:], strict=False)]
    held = [f"{a[:20]},{b[-30:-9]}" for a, b in zip(lines[200:210], lines[210:220], strict=True)]
    (here / "held.csv").write_text("\n".join(["Q,A", *held]) + "\n", "utf-8")
    pairs.append(f'"why",{" ".join(lines[:9])!r}'.replace("'", '"'))
    (here / "chats.csv").write_text("\n".join(["Q,A", *pairs]) + "\n", "utf-8")
    (here / "text.txt").write_text("\n".join(lines), "utf-8")
    return here


@pytest.fixture
def train(desk, tmp_path):
    """train(name, *arguments, template=, more=) -> how it ended; `more` are other sources."""

    def train(name, *arguments, template="alpaca", more=""):
        chats, held = (CHATS.replace("{file}", file) for file in ("chats", "held"))
        said = CONFIG.replace("{sources}", chats + more).replace("{held}", held)
        said = said.format(here=desk, out=tmp_path / name, template=template)
        (tmp_path / f"{name}.py").write_text(said)
        return call("maxlite.train", f"--config={tmp_path / name}.py", *arguments)

    return train


def shown(tmp_path, name, *arguments):
    """What show_order says of a run: its output, and the documents of the sequences."""
    figures = tmp_path / "figures.json"
    outcome = call(
        "tools.show_order",
        f"--order={tmp_path / name}",
        f"--json={figures}",
        "--overwrite",
        *arguments,
    )
    assert outcome.status == 0, outcome.err
    return outcome.out, json.loads(figures.read_text())["sequences"]


def theirs(folder, messages):
    """Summed loss of responses, and their tokens, as TRL counts them: labels of -100 elsewhere."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    total, counted = 0.0, 0
    template = tokenizer.chat_template or NAMED["alpaca"]
    for one in messages:
        settings = {"chat_template": template, "return_dict": False}
        ids = tokenizer.apply_chat_template(one, **settings)
        prompt = tokenizer.apply_chat_template(one[:-1], add_generation_prompt=True, **settings)
        labels = torch.tensor([[-100] * len(prompt) + ids[len(prompt) :]])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([ids]), labels=labels).loss.item()
        number = len(ids) - len(prompt)
        total, counted = total + loss * number, counted + number
    return total, counted


def messages(documents):
    """The conversations of documents that show_order has shown, under the Alpaca template."""
    found = []
    for document in documents:
        asked, answer = document["text"].split("### Response: ")
        asked = asked.split("### Instruction:\n")[1].removesuffix("\n\n")
        said = answer.removesuffix("</s>")
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        found.append(turns)
    return found


def test_loss_is_that_of_masked_labels(train, desk, tmp_path):
    outcome = train("run")
    assert outcome.status == 0, outcome.err
    assert "left out are 1 longer than 256 tokens" in outcome.err
    lines = metrics(tmp_path / "run")
    _, sequences = shown(tmp_path, "run", "--count=8")
    read = [document for one in sequences for document in one["documents"]]
    total, counted = theirs(desk / "model", messages(read))
    first = next(line for line in lines if "loss" in line)
    assert first["loss"] == pytest.approx(total / counted, rel=1e-5)
    assert counted == sum(sum(document["learnt"]) for document in read)

    pairs = [line.split(",") for line in (desk / "held.csv").read_text().splitlines()[1:]]
    held = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        for asked, said in pairs
    ]
    total, counted = theirs(tmp_path / "run-export", held)
    last = [line for line in lines if "eval/held/loss" in line][-1]
    assert last["eval/held/loss"] == pytest.approx(total / counted, rel=1e-5)
    size = sum(len(one[1]["content"].strip().encode()) for one in held)
    bits = total / math.log(2) / size
    assert last["eval/held/bits_per_byte"] == pytest.approx(bits, rel=1e-5)


def test_the_export_writes_what_was_trained(train, desk, tmp_path):
    from transformers import AutoTokenizer

    assert train("run").status == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run-export")
    assert tokenizer.chat_template.strip() == NAMED["alpaca"].strip()
    out, sequences = shown(tmp_path, "run", "--count=3", "--tokens")
    for document in (document for one in sequences for document in one["documents"]):
        (turns,) = messages([document])
        ids = tokenizer.apply_chat_template(turns, return_dict=False)
        pieces = tokenizer.convert_ids_to_tokens(ids)
        start = document["learnt"].index(1)
        said = "·".join(pieces[:start]) + "⟦" + "·".join(pieces[start:]) + "⟧"
        assert document["shown"].replace("\n", "<0x0A>") == said and said in out
    # The next stage finds the template in the model, and has the same text.
    outcome = train("next", f"--config.model={tmp_path / 'run-export'}", template="own")
    assert outcome.status == 0, outcome.err
    orders = [json.loads((tmp_path / n / "run.json").read_text())["order"] for n in ("run", "next")]
    assert orders[0] == orders[1]
    files = [tmp_path / f"{n}-export" for n in ("run", "next")]
    for name in ("chat_template.jinja", "tokenizer_config.json", "tokenizer.model"):
        assert files[0].joinpath(name).read_bytes() == files[1].joinpath(name).read_bytes()


def test_conversations_beside_text_resume(train, desk, tmp_path):
    more = 'Source("{here}/text.txt", weight=1.0, name="text"),'
    assert train("whole", more=more).status == 0
    assert train("parted", "--config.steps=2", more=more).status == 0
    shutil.rmtree(tmp_path / "parted-export")
    outcome = train("parted", more=more)
    assert outcome.status == 0 and "resumed from step 2" in outcome.err, outcome.err
    whole, parted = (
        {line["step"]: line["loss"] for line in metrics(tmp_path / name) if "loss" in line}
        for name in ("whole", "parted")
    )
    assert whole == parted and status(tmp_path / "parted")["status"] == "finished"
    ran = metrics(tmp_path / "whole")[-1]
    assert ran["eval/held/loss"] > 0
    out, sequences = shown(tmp_path, "whole", "--count=4")
    text = [d for s in sequences if s["source"] == "text" for d in s["documents"]]
    assert text and all(d["learnt"] is None and d["shown"] == d["text"] for d in text)
    assert out.count("⟦") == sum(len(s["documents"]) for s in sequences if s["source"] == "chats")


def test_the_command_line_gives_the_files_of_a_config(desk, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"instruction": "who", "output": "the cat"}) + "\n")
    given = [f"--config.model={desk / 'model'}", f"--config.out={tmp_path / 'run'}"]
    outcome = call("maxlite.train", "--config=sft.py", *given)
    assert "'data.train' is empty" in outcome.sentence
    outcome = call("maxlite.train", "--config=sft.py", *given, f"--config.data.train={chats}")
    assert "has no chat template of its own; name one" in outcome.sentence
    given += [f"--config.data.train={chats}", "--config.seq_len=256"]
    chats.write_text('\n{"instruction": "who", "output": ""}\n')
    outcome = call("maxlite.train", "--config=chinese_llama/sft.py", *given)
    assert outcome.sentence.startswith(f"{chats}, line 2: a response is empty")
    assert not (tmp_path / "run").exists()
