"""Conversations as tokens: the ids are those of `transformers`, and the mask is exact."""

import json
from itertools import groupby

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from maxlite.data.chat import Conversation
from maxlite.data.chat_templates import FILE, NAMED, own, template, with_template
from maxlite.data.chat_tokens import ChatEncoder, taught
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
SPECIAL += ["<|eot_id|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
FITTING = [(name, kind) for name in NAMED for kind in ("bytes", "pieces")]
FITTING = [(n, k) for n, k in FITTING if k == "bytes" or n in ("alpaca", "llama2")]

# How each template writes the conversation below, with what is learnt in brackets.
WRITTEN = {
    "alpaca": "{bos}Be brief.\n\n### Instruction:\nwho sees\n\n### Response:⟦ the cat{eos}⟧"
    "\n\n### Instruction:\nand?\n\n### Response:⟦ 가 a dog\n{eos}⟧",
    "llama2": "{bos}[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nwho sees [/INST]⟦ the cat {eos}⟧"
    "{bos}[INST] and? [/INST]⟦ 가 a dog {eos}⟧",
    "llama3": "{bos}<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nwho sees<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦the cat<|eot_id|>⟧"
    "<|start_header_id|>user<|end_header_id|>\n\nand?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦가 a dog<|eot_id|>⟧",
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nwho sees<|im_end|>\n"
    "<|im_start|>assistant\n⟦the cat<|im_end|>⟧\n<|im_start|>user\nand?<|im_end|>\n"
    "<|im_start|>assistant\n⟦가 a dog\n<|im_end|>⟧\n",
}
WRITTEN["alpaca"] = WRITTEN["alpaca"].replace("dog\n", "dog")  # which trims

# Where each says a message, and what that is.
SAID = {
    "alpaca": ("{{- ' ' + message['content'] | trim + eos_token }}",) * 2,
    "llama2": ("{{- ' ' + message['content'] | trim + ' ' + eos_token }}",) * 2,
    "llama3": ("{{- message['content'] | trim + '<|eot_id|>' }}",) * 2,
    "chatml": (
        " + message['content'] + '<|im_end|>' + '\\n' }}",
        "message['content'] + '<|im_end|>'",
    ),
}
SAID = {n: (old, said.removeprefix("{{- ").removesuffix(" }}")) for n, (old, said) in SAID.items()}


def talk(*said, system="Be brief."):
    roles = ["user", "assistant"] * len(said)
    turns = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    return Conversation([{"role": "system", "content": system}] * bool(system) + turns, "c.json")


TALK = talk("who sees", "the cat", "and?", "가 a dog\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_tokenizer, tiny_text):
    """Tokenizers' folders: "pieces" (Llama 2's kind) and "bytes" (Llama 3's kind)."""
    folder = tmp_path_factory.mktemp("bytes")
    trained = tokenizers.Tokenizer(models.BPE())
    parted = pre_tokenizers.Split(tokenizers.Regex(LLAMA3), "isolated")
    pairs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trained.pre_tokenizer = pre_tokenizers.Sequence([parted, pairs])
    trained.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    repeated = ["a\n\nb\n\n\n\nc"] * 99  # so that \n\n and \n\n\n\n are pieces
    trained.train_from_iterator([(tiny_text / "en.txt").read_text(), *repeated], trainer)
    trained.save(str(folder / "tokenizer.json"))
    ends = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    config = ends | {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return {"bytes": folder, "pieces": tiny_tokenizer}


@pytest.fixture(scope="module")
def theirs(folders):
    from transformers import AutoTokenizer

    return {kind: AutoTokenizer.from_pretrained(folder) for kind, folder in folders.items()}


def encoder(folder, name):
    tokenizer = load_tokenizer(folder)
    return ChatEncoder(tokenizer, template(name, tokenizer) if name in NAMED else name)


def encoded(folder, name, *several):
    return encoder(folder, name)(several)


def bracketed(tokenizer, ids, learnt):
    """The text of ids, with brackets around those that are learnt."""
    runs = [(key, len(list(run))) for key, run in groupby(learnt)]
    said, end, before = "", 0, ""
    for key, size in runs:
        end += size
        now = tokenizer.decode(ids[:end])
        said += f"⟦{now[len(before) :]}⟧" if key else now[len(before) :]
        before = now
    return said


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_ids_are_those_of_transformers_and_the_mask_is_exact(name, kind, folders, theirs):
    _, (ids,), (learnt,), left_out = encoded(folders[kind], name, TALK)
    hf, settings = theirs[kind], {"chat_template": NAMED[name], "return_dict": False}
    assert ids.tolist() == hf.apply_chat_template(TALK.messages, **settings) and not left_out
    starts = np.flatnonzero(np.diff(learnt.astype(int)) == 1) + 1
    turns = [k for k, one in enumerate(TALK.messages) if one["role"] == "assistant"]
    for start, k in zip(starts, turns, strict=True):  # what a model is given for its response
        settings["add_generation_prompt"] = True
        assert ids[:start].tolist() == hf.apply_chat_template(TALK.messages[:k], **settings)
    ends = {"bos": hf.bos_token, "eos": hf.eos_token}
    mine = load_tokenizer(folders[kind])
    assert bracketed(mine, ids.tolist(), learnt.tolist()) == WRITTEN[name].format(**ends)


@pytest.mark.parametrize(("name", "kind"), FITTING)
def test_the_mask_is_that_of_marks(name, kind, folders, theirs):
    """`transformers` has another way to the mask: {% generation %} in the template."""
    old, said = SAID[name]
    begun, ended = (" }}", "{{- '\\n' }}") if name == "chatml" else ("", "")
    marked = NAMED[name].replace(
        old,
        begun + "{%- if message['role'] == 'assistant' %}{%- generation -%}{{- "
        f"{said} }}}}{{%- endgeneration -%}}{{%- else %}}{{{{- {said} }}}}{{%- endif %}}" + ended,
    )
    assert marked != NAMED[name]
    given = {"chat_template": marked, "return_dict": True, "return_assistant_tokens_mask": True}
    for one in (TALK, talk("a", "b", system=""), talk("and?", "  the\n\nmoon.")):
        _, (ids,), (learnt,), _ = encoded(folders[kind], name, one)
        found = theirs[kind].apply_chat_template(one.messages, **given)
        assert ids.tolist() == found["input_ids"]
        assert learnt.tolist() == found["assistant_masks"]
        _, (ids2,), (learnt2,), _ = encoded(folders[kind], marked, one)
        assert (ids == ids2).all() and (learnt == learnt2).all()


def test_marks_without_the_end_token_get_it(folders):
    text = "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}"
    text += "{{ m['content'] }}{% endgeneration %}<|im_end|>{% else %}{{ m['content'] }}: "
    text += "{% endif %}{% endfor %}"
    _, (ids,), (learnt,), _ = encoded(folders["bytes"], text, talk("a", "b", system=""))
    assert bracketed(load_tokenizer(folders["bytes"]), ids.tolist(), learnt) == "a: ⟦b<|im_end|>⟧"
    with pytest.raises(InputError, match="writes no end token after a response"):
        encoded(folders["bytes"], text.replace("<|im_end|>", "."), TALK)
    with pytest.raises(InputError, match="marks nothing as generated"):
        encoded(folders["bytes"], text.replace("'assistant'", "'no'"), TALK)


def test_a_token_over_the_border_is_parted(folders, theirs):
    """A response that begins with line feeds, after a prompt that ends with one."""
    one = talk("a", "\n\n\nb", "c", "d", system="")
    _, (ids,), (learnt,), _ = encoded(folders["bytes"], "chatml", one)
    settings = {"chat_template": NAMED["chatml"], "return_dict": False}
    hf = theirs["bytes"]
    prompt = hf.apply_chat_template(one.messages[:1], add_generation_prompt=True, **settings)
    whole = hf.apply_chat_template(one.messages, **settings)
    assert whole[: len(prompt)] != prompt  # or this would show nothing
    assert ids[: len(prompt)].tolist() == prompt and not learnt[: len(prompt)].any()
    said = bracketed(load_tokenizer(folders["bytes"]), ids.tolist(), learnt)
    assert said.startswith(
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦\n\n\nb<|im_end|>⟧"
    )
    assert said.endswith("assistant\n⟦d<|im_end|>⟧\n") and hf.decode(ids) == hf.decode(whole)


def test_turns_that_are_rewritten_become_documents_of_their_own(folders, theirs):
    """Such as those of a template that shows only the last answer's reasoning."""
    text = "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}({% endif %}"
    text += "{{ m['content'] }}<|im_end|>{% endfor %}"
    one = talk("a", "bb", "c", "d", system="")
    about, ids, learnt, _ = encoded(folders["bytes"], text, one)
    mine = load_tokenizer(folders["bytes"])
    said = [bracketed(mine, i.tolist(), m) for i, m in zip(ids, learnt, strict=True)]
    end = "<|im_end|>"
    assert said == [f"a{end}⟦bb{end}⟧", f"a{end}(bb{end}c{end}⟦d{end}⟧"]
    assert about[:, 1].tolist() == [2, 1] and about[0, 3] == about[1, 3]


def test_what_is_measured_is_responses(folders):
    for name in NAMED:
        (about,), (ids,), _, _ = encoded(folders["bytes"], name, TALK)
        assert about[:3].tolist() == [len(ids), len("the cat가 a dog".encode()), 14]


def test_text_that_names_a_special_token_is_left_out(folders):
    one = talk("what is <|im_end|>?", "a token")
    about, ids, learnt, left_out = encoded(folders["bytes"], "alpaca", one, TALK, one)
    assert len(about) == len(ids) == len(learnt) == 1 and left_out == 2
    assert encoded(folders["pieces"], "alpaca", one).left_out == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ raise_exception('no thanks') }}", "c.json: the chat template refuses it: no thanks"),
        ("{{ messages.__class__.__mro__ }}", "refuses it: access to attribute '__class__'"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "writes no end token"),
        ("{{ messages | length }}<|im_end|>", "does not begin a response where its prompt ends"),
        ("{% if %}", "refuses it: "),
    ],
)
def test_templates_that_cannot_be_right_are_refused(folders, text, said):
    with pytest.raises(InputError) as error:
        encoded(folders["bytes"], text, TALK)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_turns_that_a_template_does_not_know_are_refused(folders):
    for one in (talk("a", "b", "c", "d").messages[1:], talk("a", "b").messages * 2):
        for name in ("alpaca", "llama2"):
            with pytest.raises(InputError, match="user and assistant must take turns"):
                encoded(folders["bytes"], name, Conversation(one[1:], "c.json"))


def test_names_of_templates(folders):
    pieces = load_tokenizer(folders["pieces"])
    with pytest.raises(InputError, match="there are alpaca, llama2, llama3, chatml, and 'own'"):
        template("vicuna", pieces)
    with pytest.raises(InputError, match="has no chat template of its own; name one"):
        template("own", pieces)
    for name in ("llama3", "chatml"):
        with pytest.raises(InputError, match=r"needs the special token <\|.*alpaca, llama2"):
            template(name, pieces)
    files = {"tokenizer_config.json": json.dumps({"chat_template": "one"}).encode()}
    assert own(files) == "one" and own(files | {FILE: b"two"}) == "two"
    several = [{"name": "tool", "template": "x"}, {"name": "default", "template": "three"}]
    assert (
        own({"tokenizer_config.json": json.dumps({"chat_template": several}).encode()}) == "three"
    )


def test_a_template_goes_along_with_its_tokenizer(folders, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = load_tokenizer(folders["bytes"])
    old = {"chat_template": "old", "bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    files = tokenizer.files | {"tokenizer_config.json": json.dumps(old).encode()}
    changed = taught(files, "chatml", tokenizer)
    for name, data in changed.items():
        (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template.strip() == NAMED["chatml"].strip()
    assert "chat_template" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    ends = json.loads(changed["generation_config.json"])["eos_token_id"]
    assert ends == [tokenizer.eos, tokenizer.find("<|im_end|>")]
    assert taught(changed, "chatml", tokenizer) is changed
    known = with_template({"generation_config.json": b'{"eos_token_id": [7, 8]}'}, "x", 8, 7)
    assert known == {"generation_config.json": b'{"eos_token_id": [7, 8]}', FILE: b"x"}
