"""Evaluations as a person sees them."""

import json

import pytest

from maxlite.errors import InputError
from maxlite.report.evaluated import check, compared, read, side_by_side, table


def row(bits, size=100, per_char=0.5):
    return {
        "bits_per_byte": bits, "loss": 2.0, "tokens": 40, "bytes": size, "documents": 4,
        "tokens_per_char": per_char, "context_chars": 64 / per_char,
    }  # fmt: skip


def figures(ko, en, texts=(), **more):
    groups = [{"name": "ko", **row(ko, **more)}, {"name": "en", **row(en)}]
    samples = [{"prompt": "p", "text": text, "new_tokens": 1} for text in texts]
    total = row((ko + en) / 2, 200)
    return {
        "model": "m", "seq_len": 64, "files": [], "groups": groups, "total": total,
        "samples": samples,
    }  # fmt: skip


def test_gain_stands_beside_forgetting():
    told = compared(figures(4.0, 1.0, per_char=2.0), figures(2.5, 1.25))
    assert [group["gain"] for group in told["groups"]] == [1.5, -0.25]
    assert told["total"]["gain"] == 0.625 and told["before"]["groups"][0]["bits_per_byte"] == 4.0
    title, heads, ko, en, total = table(told).splitlines()
    assert [ko.split(), en.split()] == [
        ["4.0000", "2.5000", "1.5000", "2.0000", "0.5000", "32", "128", "ko"],
        ["1.0000", "1.2500", "0.2500", "0.5000", "0.5000", "128", "128", "en"],
    ]
    assert "characters in 64 tokens" in title and total.endswith("total")
    gain, forgotten = (heads.index(word) + len(word) for word in ("gain", "forgotten"))
    assert ko[:gain].endswith("1.5000") and en[:forgotten].endswith("0.2500")


def test_one_model_alone():
    head, *rows = table(figures(2.5, 1.25)).splitlines()
    assert "loss" in head and "before" not in head
    assert [line.split()[0] for line in rows] == ["2.5000", "1.2500", "1.8750"]
    alone = figures(2.5, 1.25)
    del alone["groups"][1]
    assert "total" not in table(alone)


def test_texts_stand_side_by_side_whatever_their_width():
    told = compared(
        figures(4, 1, ["가나 다라마바사 ab\x1b"]), figures(2, 1, ["one\ntwo three four"])
    )
    assert side_by_side(told, 23).splitlines() == [
        "before     │ after",
        "",
        "▸ p",
        "가나       │ one",
        "다라마바사 │ two three",
        "ab\ufffd        │ four",
    ]
    assert side_by_side(figures(4, 1, ["abc"]), 23) == "text\n\n▸ p\nabc"


def test_what_cannot_be_compared(tmp_path):
    before = figures(4, 1, ["a"])
    for names, window, prompts, said in (
        (["ko"], 64, [], "not of ko"),
        (["en", "ko"], 32, [], "would read 32"),
        (["en", "ko"], 64, ["q"], "other prompts"),
    ):
        with pytest.raises(InputError, match=said):
            check(before, names, window, prompts)
    check(before, ["en", "ko"], 64, ["p"])
    check(before, ["en", "ko"], 64, [])
    with pytest.raises(InputError, match="4 documents of 101 bytes now"):
        compared(before, figures(4, 1, size=101))


def test_an_earlier_evaluation_is_read_and_checked(tmp_path):
    file = tmp_path / "x.json"
    with pytest.raises(InputError, match="there is no file"):
        read(file)
    before = figures(4, 1, ["a"])
    file.write_text(json.dumps(compared(figures(5, 2), before)))
    assert read(file)["groups"][0]["bits_per_byte"] == 4 and "before" not in read(file)
    for key in ("groups", "seq_len", "samples"):
        file.write_text(json.dumps({k: v for k, v in before.items() if k != key}))
        with pytest.raises(InputError, match="is not what evaluate writes"):
            read(file)
    file.write_text("{")
    with pytest.raises(InputError, match="is not what evaluate writes"):
        read(file)
