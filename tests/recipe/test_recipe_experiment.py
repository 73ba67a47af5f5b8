"""The experiments of configs/evidence, as plans."""

import re

import pytest
from commands import ROOT, call, done

from maxlite import flags
from maxlite.recipe import Experiment
from maxlite.recipe.steps import resolve, steps
from maxlite.tokenizer import load_tokenizer

# `call` runs as a program what is imported here.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

CLAIMS = {  # to runs of a seed, and what the recipe makes once
    "eeve": (22, 0),
    "chinese_llama": (4, 0),
    "redwhale": (5, 0),
    "solar": (4, 0),
    "pangu": (6, 1),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder):
    """A folder with model/, extended/, ko.txt and en.txt."""
    here = tmp_path_factory.mktemp("evidence")
    shape = {"num_hidden_layers": 8, "hidden_size": 64, "intermediate_size": 176}
    make_folder(here / "model", **shape)
    for name, line in (("ko", "봄이 왔다. 꽃이 피었다."), ("en", "The tide came in.")):
        (here / f"{name}.txt").write_text(f"{line}\n" * 40, "utf-8")
    pieces = {"base": here / "model", "text": here / "ko.txt", "script": "Hangul"}
    pieces |= {"candidates": 280, "min_count": 20, "out": here / "tokenizer"}
    done(call("tools.refine_vocab", *(f"--{key}={value}" for key, value in pieces.items())))
    wider = {"model": here / "model", "tokenizer": here / "tokenizer", "out": here / "extended"}
    words = [f"--{key}={value}" for key, value in wider.items()]
    done(call("tools.extend_vocab", *words))
    return here


def given(desk, claim, *more):
    keys = {"model": desk / "model", "extended": desk / "extended", "corpus": desk / "ko.txt"}
    keys |= {"keep": desk / "en.txt", "out": desk / claim, "seeds": 2, "megabytes": 0.02}
    return [
        f"--config=evidence/{claim}.py",
        *(f"--config.{key}={value}" for key, value in keys.items()),
        *more,
    ]


def planned(desk, claim, *more):
    arguments = given(desk, claim, *more)
    recipe = flags.parse_as(arguments, flags.class_of(arguments, Experiment), resolve)[0]
    return recipe, {step.name: step for step in steps(recipe)}


def keys(step):
    return dict(word.removeprefix("--config.").split("=", 1) for word in step.arguments)


@pytest.mark.parametrize("claim", CLAIMS)
def test_each_claim_can_be_planned_and_compares_all_its_runs(claim, desk):
    a_seed, once = CLAIMS[claim]
    outcome = done(call("maxlite.recipe", *given(desk, claim), "--plan"))
    assert "is not known yet" not in outcome.out and not (desk / claim).exists()
    recipe, found = planned(desk, claim)
    assert list(recipe.plan()) == list(found.values())  # however often it is asked
    runs = [name for name, step in found.items() if step.module == "maxlite.train"]
    assert len(runs) == 2 * a_seed + once
    (compared,) = [step for step in found.values() if step.module == "tools.compare_runs"]
    listed = next(word for word in compared.arguments if word.startswith("--runs="))
    assert re.findall(r"/([\w-]+)(?:,|$)", listed) == runs
    seeds = [keys(found[name])["seed"] for name in runs if name.endswith("-1")]
    assert all(int(seed) % 100 == 1 for seed in seeds)


def test_arms_read_as_many_bytes_whatever_their_tokenizers(desk):
    recipe, found = planned(desk, "eeve")
    line = (desk / "ko.txt").read_text("utf-8").splitlines()[0]
    for folder in ("model", "extended"):
        each = len(load_tokenizer(desk / folder).encode([line])[0]) + 2
        assert recipe.tokens(str(desk / folder)) == pytest.approx(2e4 * each / len(line.encode()))
    room = recipe.batch_size * recipe.seq_len
    whole, once = (int(keys(found[f"{n}-0"])["steps"]) for n in ("as_it_was", "at_once"))
    assert whole == round(recipe.tokens(recipe.model) / room) > 2 * once
    kosolar = ("frozen_trained", "frozen_frozen", "trained_trained", "trained_frozen")
    assert {int(keys(found[f"{name}-0"])["steps"]) for name in kosolar} == {once}
    alone, mixed = (keys(found[f"at_once{more}-0"])["data.train"] for more in ("", "_mixed"))
    assert alone == f"corpus={desk}/ko.txt"
    assert mixed == f"corpus={desk}/ko.txt:0.9,keep={desk}/en.txt:0.1"
    staged = sum(int(keys(found[f"stage{n}-0"])["steps"]) for n in range(1, 8))
    assert staged == pytest.approx(once, abs=7)


def test_rungs_have_equal_parameters_and_compute(desk):
    from maxlite.model.flops import flops_per_token
    from maxlite.sizes import count

    recipe, found = planned(desk, "pangu")
    shapes = recipe.shapes()
    sizes = [count(shape) for shape in shapes.values()]
    assert max(sizes) < 1.03 * min(sizes)
    large = recipe.shape(recipe.extended)
    groups = large.num_attention_heads // large.num_key_value_heads
    assert groups > 1  # or this would not show
    for shape in shapes.values():
        assert shape.num_attention_heads == groups * shape.num_key_value_heads
    assert shapes["deeper"].intermediate_size <= large.intermediate_size
    assert shapes["deeper"].num_hidden_layers > shapes["compact"].num_hidden_layers
    assert shapes["compact"].vocab_size == shapes["random"].vocab_size // 2
    work = {
        name: int(keys(found[f"{name}-0"])["steps"]) * flops_per_token(shape, recipe.seq_len)
        for name, shape in shapes.items()
    }
    assert max(work.values()) < 1.1 * min(work.values())
    rounds = [int(keys(found[f"round{n}-0"])["steps"]) for n in (1, 2)]
    assert sum(rounds) == pytest.approx(int(keys(found["deeper-0"])["steps"]), abs=1)


def test_a_corpus_without_text_is_refused(desk, tmp_path):
    (tmp_path / "none.txt").write_text("\n", "utf-8")
    arguments = given(desk, "redwhale", f"--config.corpus={tmp_path}/none.txt", "--plan")
    assert "there is no text in" in call("maxlite.recipe", *arguments).sentence


def test_what_it_begins_from_can_be_made(tmp_path):
    outcome = done(
        call("maxlite.recipe", "--config=evidence/base.py", f"--config.out={tmp_path}/b", "--plan")
    )
    assert "1. corpus: to do" in outcome.out and "8. extended: to do" in outcome.out
    script = re.search(r"python (\S+make_text.py)", outcome.out).group(1)
    assert (ROOT / script).is_file() and not (tmp_path / "b").exists()
