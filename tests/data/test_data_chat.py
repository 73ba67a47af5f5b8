"""Conversations in files: what each format means, and what is refused."""

import csv
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from maxlite.data.chat import conversations
from maxlite.errors import InputError

ASKED, ANSWER = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}
TURNS = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
ALPACA = {"instruction": "Why?", "input": "", "output": "So."}


def read(path, field="text"):
    return [one.messages for one in conversations(path, field)]


@pytest.fixture
def lines(tmp_path):
    """Writes records as JSON lines."""

    def write(*records, name="c.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(r) + "\n" for r in records), "utf-8")
        return path

    return write


@pytest.mark.parametrize(
    "record",
    [
        ALPACA,
        {"messages": [ASKED, ANSWER], "id": 3},
        {"conversations": TURNS},
        {"conversations": [ASKED, ANSWER]},
    ],
)
def test_a_record_shows_what_it_is(lines, tmp_path, record):
    assert read(lines(record, record)) == [[ASKED, ANSWER]] * 2
    assert read(lines(record, record, name="c.json")) == [[ASKED, ANSWER]] * 2
    (tmp_path / "a.json").write_text("\ufeff \n" + json.dumps([record]), "utf-8")
    assert read(tmp_path / "a.json") == [[ASKED, ANSWER]]
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(json.dumps(record).encode()))
    assert read(tmp_path / "c.jsonl.gz") == [[ASKED, ANSWER]]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([record]), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet") == [[ASKED, ANSWER]]


def test_an_input_follows_its_instruction(lines):
    ((asked, answer),) = read(lines(ALPACA | {"input": "1 + 1"}))
    assert asked["content"] == "Why?\n1 + 1" and answer == ANSWER


def test_columns_of_pairs(tmp_path, lines):
    path = tmp_path / "c.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["Q", "A", "label"], ["Why,\n다?", 'So "it" is.', 0], ["a", "b", 1]])
    found = read(path, "Q, A")
    assert [[m["content"] for m in one] for one in found] == [
        ["Why,\n다?", 'So "it" is.'],
        ["a", "b"],
    ]
    assert [m["role"] for m in found[0]] == ["user", "assistant"]
    assert read(path) == found
    assert [one.where for one in conversations(path, "Q,A")] == [
        f"{path}, line {n}" for n in (3, 4)
    ]
    assert read(lines({"q": "Why?", "a": "So."}), "q,a") == [[ASKED, ANSWER]]


@pytest.mark.parametrize(
    "names", ["question answer", "Q A", "prompt response", "prompt completion"]
)
def test_pairs_that_are_known_by_name(lines, names):
    asked, answer = names.split()
    assert read(lines({asked: "Why?", answer: "So."})) == [[ASKED, ANSWER]]
    assert read(lines({"chat": TURNS, "messages": 1}), "chat") == [[ASKED, ANSWER]]


def test_all_that_is_said_is_kept_up_to_the_last_response(lines):
    system = {"role": "system", "content": "Be brief."}
    talk = [system, ASKED, ANSWER, ASKED, ANSWER]
    assert read(lines({"messages": [*talk, ASKED, system]})) == [talk]


@pytest.mark.parametrize(
    ("record", "field", "said"),
    [
        ({"messages": [ASKED]}, "text", "line 2: no response to learn from"),
        ({"messages": []}, "text", "line 2: no response to learn from"),
        (ALPACA | {"output": " "}, "text", "line 2: a response is empty"),
        (ALPACA | {"output": None}, "text", "line 2: what the assistant says is not text but None"),
        ({"prompt": "a"}, "text", "line 2: no conversation that is known (it has 'prompt'); name"),
        ({"q": "a"}, "q,a", "line 2: no columns 'q,a' (it has 'q')"),
        (ALPACA, "a,b,c", "line 2: no columns 'a,b,c'"),
        ({"messages": "hi"}, "text", "line 2: 'messages' is not a list"),
        ({"messages": ["hi"]}, "text", "line 2: a message has no 'role' and 'content'"),
        (
            {"messages": [{"role": "me", "content": ""}]},
            "text",
            "nobody is known as 'me', only user",
        ),
        ({"messages": [ASKED, {**ANSWER, "tool_calls": [1]}]}, "text", "line 2: a message calls"),
        ({"messages": [ASKED, {**ANSWER, "content": "\ud800"}]}, "text", "a lone surrogate"),
    ],
)
def test_what_is_refused_and_where(lines, record, field, said):
    good = {"messages": [ASKED, ANSWER], "q": "a", "a": "b"}
    with pytest.raises(InputError) as error:
        read(lines(good if field != "a,b,c" else ALPACA | {"a": "", "b": ""}, record), field)
    assert said.replace("line 2: no columns 'a,b,c'", "no columns 'a,b,c'") in str(error.value)
    assert "c.jsonl, line" in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.json", '[{"messages": []},', "not a JSON array"),
        ("c.json", '[{"instruction": "a", "output": "b"}, 3]', "record 2: expected a JSON object"),
        ("c.csv", "Q,A\na\n", "line 2: not as many columns as the header"),
        ("c.csv", "Q,A\na,b,c\n", "line 2: not as many columns as the header"),
        ("c.csv", 'Q,A\na,"b\n', "not CSV in UTF-8"),
        ("c.jsonl", "{\n", "line 1: not a JSON object on one line"),
        ("c.txt", "", "can't be read as conversations; it must end in .json"),
    ],
)
def test_files_that_are_damaged(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        read(tmp_path / name, "Q,A" if name == "c.csv" else "text")
    assert said in str(error.value)
