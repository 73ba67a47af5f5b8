"""Tables of evidence, of runs that are made up."""

import pytest

from maxlite.errors import InputError
from maxlite.report.evidence import Arm, markdown, outcomes, recovery, several, stages


def run(name, corpus, keep, **more):
    """A run of eight steps whose evaluations are at even distances."""
    curves = {
        key: [[8 * i // (len(bits) - 1), value] for i, value in enumerate(bits)]
        for key, bits in {"corpus": corpus, "keep": keep}.items()
    }
    figures = {"status": "finished", "parameters": 1000, "tokens": 100, "flops": 2e6, "steps": 8}
    return {"name": name, "curves": curves, **figures, **more}


RUNS = [
    run("first-0", [4, 3], [1, 1.5], tokens=50),
    run("first-1", [4, 3.5], [1, 1.5], tokens=50),
    run("second-0", [3, 2], [1.5, 1.25], tokens=150),
    run("second-1", [3.5, 2.5], [1.5, 1.75], tokens=150),
    run("other-0", [4, 3.5, 3.25, 3, 2.75], [1, 1, 1, 1, 1], parameters=2000),
    run("other-1", [4, 3.5, 3.25, 3, 2.25], [1, 1, 1, 1, 1], parameters=2000),
]


def test_several():
    assert several([1.0]) == "1.000"
    assert several([1.0, 1.5, 2.0], 1) == "1.5 ± 0.5"


def test_a_chain_begins_where_its_first_run_does_and_costs_what_all_do():
    head, chained, other = outcomes(RUNS, [Arm("two", ("first", "second")), Arm("one", ("other",))])
    assert head[2:4] == ["new, before", "new, after"]
    assert chained == [
        *("two", "1k", "4.000 ± 0.000", "2.250 ± 0.250", "1.000 ± 0.000", "1.500 ± 0.250"),
        *("200", "4M"),
    ]
    assert other[:4] == ["one", "2k", "4.000 ± 0.000", "2.500 ± 0.250"] and other[-1] == "2M"


def test_recovery_is_read_at_shares_of_the_steps():
    head, row = recovery(RUNS, [Arm("one", ("other",))], (0, 0.5, 1))
    assert head == ["", "parameters", *(f"{n}, {s}" for n in ("new", "known") for s in SHARES)]
    assert row[2:5] == ["4.000 ± 0.000", "3.250 ± 0.000", "2.500 ± 0.250"]


SHARES = ("0%", "50%", "100%")


def test_stages_are_told_one_by_one():
    arms = [Arm("at once", ("other",)), Arm("stage", ("first", "second"))]
    beside = {"": "GiB", "first": "1.0", "second": "2.0", "other": "9.0"}
    assert stages(RUNS, arms, beside) == [
        ["", "new, after", "known, after", "GiB"],
        ["before", "4.000 ± 0.000", "1.000 ± 0.000", ""],
        ["stage: first", "3.250 ± 0.250", "1.500 ± 0.000", "1.0"],
        ["stage: second", "2.250 ± 0.250", "1.500 ± 0.250", "2.0"],
        ["at once", "2.500 ± 0.250", "1.000 ± 0.000", "9.0"],
    ]


def test_markdown():
    assert markdown([["", "a"], ["x", "1"]]) == "|  | a |\n| --- | ---: |\n| x | 1 |"


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (RUNS[:3], "the run second-1 is not finished"),
        (
            [*RUNS[:3], run("second-1", [1, 1], [1, 1], status="stopped")],
            "second-1 is not finished",
        ),
        ([], "there is no run first-0"),
        ([run("first-0", [1, 1], [1, 1]) | {"curves": {}}, RUNS[2]], "no evaluation of corpus"),
    ],
)
def test_what_is_missing_is_named(runs, said):
    with pytest.raises(InputError, match=said):
        outcomes(runs, [Arm("two", ("first", "second"))])
