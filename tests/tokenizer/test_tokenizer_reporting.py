"""The figures of a report, against what they are by definition."""

import json

import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.reporting import SIZES, Model, report
from maxlite.tokenizer.usage import Subject, Text

NEW = [*"가나다라마바사아자하강산달별물불꽃말길집", "강산", "▁강산", "1", "2", "12"]


class Lines:
    """A part with texts at hand."""

    def __init__(self, name, lines):
        self.name, self.lines, self.size = name, lines, sum(len(t.encode()) for t in lines)

    def read(self, advance, skipped):
        advance(self.size)
        yield from self.lines


def text(name, group, lines):
    return Text(
        name, group, [Lines(name, lines)], lambda advance: Lines(name, lines).read(advance, None)
    )


@pytest.fixture(scope="module")
def base(tiny_tokenizer):
    return Subject("old", open_definition(tiny_tokenizer))


@pytest.fixture(scope="module")
def extended(base):
    pieces = [piece for piece in NEW if piece not in base.definition.ids]
    return Subject("new", base.definition.extended([*pieces, "산달별물"], special=["<|end|>"]))


@pytest.fixture(scope="module")
def texts(tiny_text):
    read = lambda name: (tiny_text / name).read_text("utf-8").splitlines()  # noqa: E731
    return [
        text("en.txt", "en", read("en.txt")),
        text("xx.txt", "ko", read("xx.txt")),
        text("more.txt", "ko", ["강산 달 the", "12 12"]),
    ]


@pytest.fixture(scope="module")
def figures(base, extended, texts):
    model = Model("m", 400, 16, False, 10_000)
    return report([extended], base, texts, models=[model, Model("t", 400, 16, True, 10_000)])


def test_fertility_and_ratios(figures, base, extended, texts):
    for row, of in zip(figures["files"], texts, strict=True):
        lines = of.parts[0].lines
        assert (row["documents"], row["characters"]) == (len(lines), sum(map(len, lines)))
        for subject in (base, extended):
            tokens = sum(map(len, subject.tokenizer.encode(lines)))
            assert row["tokens"][subject.name] == tokens
            assert row["tokens_per_character"][subject.name] == tokens / sum(map(len, lines))
            assert row["tokens_per_byte"][subject.name] == tokens / sum(
                len(line.encode()) for line in lines
            )
            words = sum(len(line.split()) for line in lines)
            assert row["tokens_per_word"][subject.name] == tokens / words
        assert row["of_first"]["new"] == row["tokens"]["new"] / row["tokens"]["old"]
    groups = {row["name"]: row for row in figures["groups"]}
    assert groups.keys() == {"en", "ko"} and groups["ko"]["files"] == 2
    assert groups["ko"]["tokens"]["new"] == sum(r["tokens"]["new"] for r in figures["files"][1:])
    assert groups["ko"]["of_first"]["new"] < 0.5 and figures["total"]["files"] == 3


def test_new_tokens(figures, base, extended, texts):
    rows = base.tokenizer.rows
    every = []
    for row, of in zip(figures["files"], texts, strict=True):
        ids = np.concatenate(extended.tokenizer.encode(of.parts[0].lines))
        every.append(ids)
        assert row["new_share"] == {"old": 0, "new": (ids >= rows).mean()}
    counts = np.bincount(np.concatenate(every), minlength=extended.tokenizer.rows)
    new = figures["tokenizers"][1]
    assert new["new"] == extended.tokenizer.rows - rows - 1  # but for the special token
    assert new["never_new"] == (counts[rows:-1] == 0).sum() > 0
    most = new["frequent_new"]
    assert [m["count"] for m in most] == sorted(counts[rows:].tolist(), reverse=True)[: len(most)]
    assert all(counts[m["id"]] == m["count"] for m in most)
    ordered = np.sort(counts)[::-1]
    assert new["used"] == (counts > 0).sum() == new["ranks"][-1]
    assert new["frequencies"] == ordered[np.array(new["ranks"]) - 1].tolist()
    assert new["reached"][-1] == 1 and new["reached"] == sorted(new["reached"])
    for share, ids in new["coverage"].items():
        assert ordered[:ids].sum() >= float(share) * counts.sum() > ordered[: ids - 1].sum()


def test_what_changed_and_should_not(figures):
    new = figures["tokenizers"][1]
    assert new["not_an_extension"] == "" and new["meant_for"] == ["Hangul"]
    changes = new["changes"]
    by_file = {row["name"]: row for row in changes["files"]}
    assert by_file["more.txt"]["compared"] == 1 == by_file["more.txt"]["changed"]  # "12 12"
    assert by_file["xx.txt"]["compared"] == 0
    assert changes["compared"] == by_file["en.txt"]["compared"] + 1 == 401
    assert changes["examples"][0]["name"] == "en.txt" and "12" in changes["examples"][0]["after"]


def test_pieces_never_produced(figures, extended):
    dead = figures["tokenizers"][1]["unreachable"]
    shown = {row["piece"]: row["becomes"] for row in dead["examples"]}
    assert shown["산달별물"] == ["산", "달", "별", "물"] and dead["new"] >= 1
    assert dead["count"] == sum(dead["by_kind"].values()) == sum(dead["by_script"].values())
    assert dead["share"] == dead["count"] / dead["of"]


def test_pieces_that_the_base_gives_and_this_does_not(base, texts):
    words = [p.text for p in base.definition.pieces if p.kind == "normal" and len(p.text) > 3]
    inner = {word[i : i + 2] for word in words for i in range(1, len(word) - 2)}
    greedy = sorted(inner - base.definition.ids.keys())  # of score 0: merged before all others
    subject = Subject("greedy", base.definition.extended(greedy, scores="published"))
    old, dead = (of["unreachable"] for of in report([subject], base, texts[2:])["tokenizers"])

    def gives(of, index):
        found = of.tokenizer.encode_inside([of.tokenizer.raw(index)])[0]
        return found.tolist() == [index]

    normal = [i for i, p in enumerate(base.definition.pieces) if p.kind == "normal"]
    lost = {i for i in normal if gives(base, i) and not gives(subject, i)}
    assert dead["lost"] == len(lost) > 0 and old["lost"] == 0
    shown = [row["id"] for row in dead["examples"]]
    assert shown[0] in lost and len(set(shown)) == len(shown)


def test_shares_of_a_model(figures, extended):
    untied, tied = figures["models"]
    rows = extended.tokenizer.rows
    assert untied["now"] == {
        "rows": 400, "tables": 12_800, "parameters": 22_800, "share": 12_800 / 22_800,
    }  # fmt: skip
    assert untied["tokenizers"]["new"]["share"] == 32 * rows / (32 * rows + 10_000)
    assert tied["tokenizers"]["new"]["share"] == 16 * rows / (16 * rows + 10_000)
    assert [size["rows"] for size in tied["sizes"]] == [*SIZES]


def test_both_forms_are_compared(figures, base, texts):
    for of in figures["tokenizers"]:
        assert of["agreement"]["lines"] == 802 and of["agreement"]["differing"] == 0
    published = Subject(
        "p", base.definition.extended([*"강산달", "강산", "산달"], scores="published")
    )
    agreement = report([published], base, texts)["tokenizers"][1]["agreement"]
    assert agreement["lines"] == 802 and agreement["made"]
    files = {n: f for n, f in base.definition.files.items() if n != "tokenizer.model"}
    alone = Subject("j", Definition(files, "j"))
    assert report([alone], base, texts[2:])["tokenizers"][1]["agreement"] is None


def test_a_tokenizer_alone(base, texts):
    figures = report([base], None, texts)
    assert figures["base"] is None and len(figures["tokenizers"]) == 1
    assert "changes" not in figures["tokenizers"][0] and figures["tokenizers"][0]["new"] == 0


def test_one_that_does_not_extend_the_base_is_compared_all_the_same(
    base, texts, tmp_path, llama3_json
):
    (tmp_path / "tokenizer.json").write_text(llama3_json, "utf-8")
    other = Subject("other", open_definition(tmp_path))
    of = report([other], base, texts)["tokenizers"][1]
    assert "does not extend" in of["not_an_extension"] and of["new"] > 0
    assert of["changes"]["changed"] > 0 and of["agreement"] is None


def test_scripts_that_are_given_and_fewer_lines(base, extended, texts):
    of = report([extended], base, texts, meant_for=["Latin", "Hangul"], lines=10, examples=2)
    new = of["tokenizers"][1]
    assert new["meant_for"] == ["Latin", "Hangul"] and new["changes"]["texts"] == 22
    assert new["changes"]["compared"] == new["changes"]["changed"] == 1
    assert all(len(odd["examples"]) <= 2 for odd in new["oddities"])
    assert new["agreement"]["lines"] == 22 and of["lines"] == 10
    with pytest.raises(InputError, match="Klingon"):
        report([extended], base, texts, meant_for=["Klingon"])


def test_the_figures_are_plain(figures):
    assert json.loads(json.dumps(figures)) == figures


def test_text_without_a_token_is_refused(base):
    with pytest.raises(InputError, match="empty"):
        report([base], None, [text("a", "a", [])])


def test_progress_ends_where_it_should(base, extended, texts):
    import contextlib

    seen = {}

    @contextlib.contextmanager
    def bar(what):
        seen[what] = []
        yield lambda done, total: seen[what].append((done, total))

    report([extended], base, texts, bar=bar)
    size = sum(part.size for of in texts for part in of.parts)
    assert seen.keys() == {"counting old", "counting new", "comparing", "comparing forms"}
    for what, told in seen.items():
        assert told[-1] == (size, size), what
        assert told == sorted(told)
