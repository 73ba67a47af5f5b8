"""Steps: their commands, what they make and read, and recipes that are refused."""

from dataclasses import dataclass

import pytest

from maxlite.errors import InputError
from maxlite.recipe import Recipe, Step
from maxlite.recipe.steps import check_given, resolve, steps


@dataclass
class Some(Recipe):
    required = ("text",)

    text: str = ""
    listed: tuple = ()

    def plan(self):
        return self.listed


def test_commands_are_what_one_types():
    stage = Step.train(
        "stage1", "eeve/stage1.py", {"model": "a b", "out": "my runs/1", "export": "hf", "steps": 3}
    )
    assert stage.line == (
        "python -m maxlite.train --config=eeve/stage1.py '--config.model=a b' "
        "'--config.out=my runs/1' --config.export=hf --config.steps=3"
    )
    assert stage.makes == ("my runs/1", "hf") and stage.module == "maxlite.train"
    flags = {"runs": ("a", "b,c"), "out": "x.html", "json": "x.json", "overwrite": True}
    tool = Step.tool("compare", "compare_runs", {**flags, "dry_run": False, "size": 0})
    assert tool.arguments == (
        '--runs=a,"b,c"', "--out=x.html", "--json=x.json", "--overwrite", "--size=0",
    )  # fmt: skip
    assert tool.makes == ("x.html", "x.json") and tool.module == "tools.compare_runs"
    clean = {"config": "korean.py", "config.text": "a", "config.out": "clean"}
    assert Step.tool("clean", "clean_corpus", clean).makes == ("clean",)
    assert Step("any", ("cp", "a", "b"), ("b",)).arguments == ("a", "b")


@pytest.mark.parametrize(
    ("word", "reads"),
    [
        ("--model=out/run 1", True),
        ("--text=out/run 1/part/*.zst", True),
        ("--runs=out/run,out/run 1,x", True),
        ('--runs="out/run 1",x', True),
        ("out/run 1", True),
        ("--model=out/run 10", False),
        ("--model=out/run 1.old", False),
        ("--model=/out/run 1", False),
        ("--model=out/run", False),
    ],
)
def test_a_step_reads_what_its_command_names(word, reads):
    maker = Step("make", ("x",), ("out/run 1",))
    assert Step("read", ("tool", word), ("y",)).reads(maker) is reads


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ((), "has no steps"),
        (("x",), "gave 'x', which is no Step"),
        ((Step("a/b", ("x",), ("y",)),), "not made of letters"),
        ((Step("a", ("x",), ("y",)), Step("a", ("x",), ("z",))), "'a' is there twice"),
        ((Step("a", ("x",), ()),), "does not say what it makes"),
        ((Step("a", ("x",), ("y",)), Step("b", ("x",), ("./y",))), "'a' and 'b' both make y"),
    ],
)
def test_a_recipe_that_cannot_be_kept_is_refused(listed, said):
    with pytest.raises(InputError, match=said):
        steps(Some(listed=listed))


def test_settings_are_checked():
    with pytest.raises(InputError, match=r"must return a recipe, .* not Recipe"):
        resolve(Recipe())
    with pytest.raises(InputError, match="'text' must be str, not int 3"):
        resolve(Some(text=3))
    with pytest.raises(InputError, match="'out' is empty"):
        check_given(Some(text="x"))
    with pytest.raises(InputError, match="'text' is empty"):
        check_given(Some(out="x"))
    check_given(Some(out="x", text="y"))
