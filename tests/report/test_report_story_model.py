"""Sections of the page on the model, from figures that say what each cell must be."""

import pages

from maxlite.report.story_model import costs, samples, scores


def evaluation(name, bits, per_char):
    text = {"name": "ko", "bits_per_byte": bits, "tokens_per_char": per_char, "bytes": 1234}
    return {"name": name, "texts": [text], "samples": []}


FIGURES = {
    "kind": "recipe",
    "context": 512,
    "evaluations": [evaluation("before", 2.0, 1.6), evaluation("after", 1.5, 0.4)],
    "stages": [],
    "texts": [],
}


def test_before_stands_before_after_and_less_is_a_fall():
    read = pages.read("".join(part for part in scores(FIGURES) if "<" in part))
    (row,) = read.all("tbody")[-1].all("tr")
    assert [cell.text for cell in row.inside] == [
        "ko", "1,234", "2.0000", "1.5000", "-25.0%", "1.600", "0.400", "320", "1,280",
    ]  # fmt: skip
    assert costs(FIGURES) == [("ko", 1.6, 0.4)]


def test_a_text_that_was_judged_once_has_no_change():
    first = FIGURES["evaluations"][0]
    other = {**first, "name": "after", "texts": [{**first["texts"][0], "name": "en"}]}
    figures = FIGURES | {"evaluations": [first, other]}
    read = pages.read("".join(part for part in scores(figures) if "<" in part))
    rows = [[cell.text for cell in row.inside] for row in read.all("tbody")[-1].all("tr")]
    assert [row[2:5] for row in rows] == [["2.0000", "–", "–"], ["–", "2.0000", "–"]]
    assert costs(figures) == []


def test_texts_are_written_as_they_are():
    said = '<b>굵게</b> & "so"\n' + "가" * 5000
    figures = FIGURES | {"texts": [{"name": "samples", "prompt": "<p>", "texts": [said]}]}
    (text,) = pages.read("".join(map(str, samples(figures)[1:]))).all("dd")
    assert text.text == said.replace("\n", "")
