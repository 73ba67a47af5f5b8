"""The funnel: every figure is where a person looks for it, and nothing in a text gets out."""

import copy

import pages
import pytest

from maxlite.report.corpus import funnel_table, page, share

NASTY = "<script>alert('x')</script>\u202e"
FIGURES = {
    "steps": [
        {
            "name": "length", "settings": {"min_chars": 10}, "changed": 0, "seconds": 2.0,
            "documents_in": 20_000, "documents_out": 15_000,
            "bytes_in": 4_000_000, "bytes_out": 3_000_000,
            "reasons": {
                "too long": {"documents": 1, "bytes": 400_000},
                "too short": {"documents": 4_999, "bytes": 600_000},
            },
            "examples": [
                {"reason": "too short", "text": NASTY}, {"reason": "too long", "text": "가" * 999}
            ],
        },
        {
            "name": "mask", "settings": {"kinds": ("e-mail",)}, "changed": 123, "seconds": 400.0,
            "documents_in": 15_000, "documents_out": 15_000,
            "bytes_in": 3_000_000, "bytes_out": 2_900_000, "reasons": {},
        },
    ],
    "files": ["a<b>.txt", "c.jsonl"], "out": "clean/korean", "seed": 7,
}  # fmt: skip


@pytest.fixture
def figures():
    return copy.deepcopy(FIGURES)


def test_the_table(figures):
    assert funnel_table(figures).split("\n") == [
        "step          documents    left  bytes    left  changed        time    MB/s",
        "at the start     20,000  100.0%     4M  100.0%",
        "length           15,000   75.0%     3M   75.0%        0      2.00 s       2",
        "  too short      -4,999  -25.0%  -600k  -15.0%",
        "  too long           -1  -0.01%  -400k  -10.0%",
        "mask             15,000   75.0%   2.9M   72.5%      123  6 min 40 s  0.0075",
    ]


def test_the_page(figures):
    made = page(figures)
    assert page(figures) == made and figures == FIGURES
    read = pages.read(made)
    assert [h.text for h in read.all("h2")] == [
        "Summary", "The funnel", "Why texts were dropped", "Examples of what was dropped", "Speed",
        "Settings",
    ]  # fmt: skip
    assert [d.text for d in read.all("dd", class_="value")] == ["15k", "2.9MB", "5k", "6 min 42 s"]
    rows = {
        table.attributes["aria-label"]: [
            [cell.text for cell in row.inside] for row in table.all("tr")[1:]
        ]
        for table in read.all("div", class_="scroll")
    }
    assert rows["Documents and bytes left after each step"] == [
        ["at the start", "20,000", "100.0%", "4M", "100.0%", "–", "–", "–"],
        ["length", "15,000", "75.0%", "3M", "75.0%", "5,000", "25.0%", "0"],
        ["mask", "15,000", "75.0%", "2.9M", "72.5%", "0", "0.0%", "123"],
    ]
    assert rows["Documents and bytes dropped, by reason"] == [
        ["too short", "length", "4,999", "25.0%", "600k", "120"],
        ["too long", "length", "1", "0.01%", "400k", "400,000"],
    ]
    assert rows["Time and speed by step"] == [
        ["length", "4M", "2.00", "0.50%", "2", "10,000"],
        ["mask", "3M", "400.00", "99.5%", "0.0075", "37.5"],
    ]
    assert ["mask", "kinds=('e-mail',)"] in rows["Settings of each step"]
    assert rows["Other settings"] == [["out", "clean/korean"], ["seed", "7"]]
    assert rows["Files"] == [["a<b>.txt"], ["c.jsonl"]]
    funnel = read.all("svg")[0]
    assert {"at the start", "length", "mask", "75.0%", "72.5%"} <= {
        text.text for text in funnel.all("text")
    }
    texts = [p.text for p in read.all("details")[0].all("p")]
    assert texts == [
        "too short: <script>alert('x')</script>U+202E", "too long: " + "가" * 399 + "…"
    ]  # fmt: skip


def test_what_is_not_there_is_not_shown(figures):
    for step in figures["steps"]:
        step |= {"reasons": {}, "seconds": 0.0, "examples": []}
    figures["files"] = ["only.txt"]
    read = pages.read(page(figures))
    assert [h.text for h in read.all("h2")] == [
        "Summary", "The funnel", "Why texts were dropped", "Settings"
    ]  # fmt: skip
    assert "No text was dropped." in read.text and "only.txt in 2 steps" in read.text
    assert funnel_table(figures).split("\n")[2].endswith("0.00 s     –")


def test_an_empty_corpus_and_no_steps(figures):
    for step in figures["steps"]:
        amounts = ("documents_in", "documents_out", "bytes_in", "bytes_out", "changed")
        step |= dict.fromkeys(amounts, 0) | {"reasons": {}}
    assert funnel_table(figures).split("\n")[1].split() == "at the start 0 – 0 –".split()
    pages.read(page(figures))
    none = {"steps": [], "files": [], "out": "x"}
    assert funnel_table(none) == "no step was run"
    read = pages.read(page(none))
    assert "No step was run" in read.text and "No file was read." in read.text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.004, "0.00 s"), (9.99, "9.99 s"), (9.996, "10 s"), (99.4, "99 s"), (99.6, "1 min 40 s")]
    + [(3599.4, "59 min 59 s"), (3599.6, "1 h 00 min"), (360_000, "100 h 00 min")],
)
def test_times(figures, seconds, said):
    figures["steps"][1]["seconds"] = seconds
    assert f"  {said}  " in funnel_table(figures).split("\n")[-1] + "  "


@pytest.mark.parametrize(
    ("part", "said"),
    [(None, "–"), (0, "0.0%"), (0.004, "0.40%"), (0.5, "50.0%"), (0.9997, "99.97%"), (1, "100.0%")],
)
def test_a_share_that_is_nearly_all_is_not_all(part, said):
    assert share(part) == said
