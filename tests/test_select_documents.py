"""select_documents, as a user calls it."""

import json

import numpy as np
import pytest
from commands import call, snapshot
from extended import extend

from maxlite.data.orders import read_order

TOOL = "tools.select_documents"
STAGE = """
from maxlite.config import Config, Data, Source
from maxlite.transforms import ExtendVocab


def get_config():
    return Config(
        model="{here}/model",
        init=(ExtendVocab(tokenizer="{here}/new"),),
        seq_len=64,
        batch_size=8,
        data=Data(
            train=(Source("{text}/xx.txt", 3.0), Source("{text}/en.txt", 1.0)),
            held_out=0.1,
        ),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_text, tiny_tokenizer, make_folder):
    """model/ with 400 rows, new/ with 60 pieces more, and stage.py, which puts one on the other."""
    here = tmp_path_factory.mktemp("select")
    make_folder(here / "model")
    extend(tiny_tokenizer, here / "new", 60)
    (here / "stage.py").write_text(STAGE.format(here=here, text=tiny_text))
    return here


@pytest.fixture
def select(desk, tmp_path):
    """select(*arguments) -> the outcome; writes my.order and figures.json in tmp_path."""

    def select(*arguments):
        out = [f"--out={tmp_path}/my.order", f"--json={tmp_path}/figures.json"]
        return call(TOOL, f"--config={desk}/stage.py", *out, *arguments)

    return select


def test_an_order_of_the_documents_with_new_tokens(select, tmp_path):
    outcome = select("--source=xx", "--share=0.3", "--min_count=5", "--seed=3")
    assert outcome.status == 0, outcome.err
    figures = json.loads((tmp_path / "figures.json").read_text())
    order = read_order(tmp_path / "my.order")
    assert order.fingerprint == figures["fingerprint"] and order.held_out == 0.1
    assert order.notes == {
        "tool": "select_documents", "base_rows": 400, "share": 0.3, "by": "tokens",
        "temperature": 1.0, "min_count": 5, "seed": 3,
    }  # fmt: skip
    xx, en = order.sources
    assert en.documents is None and figures["sources"] == {"xx": len(xx.documents)}
    before, after = figures["before"], figures["after"]
    assert after["documents"] == len(xx.documents)
    assert 0.29 * before["tokens"] < after["tokens"] <= 0.3 * before["tokens"]
    assert after["new_share"] == after["new_tokens"] / after["tokens"] > 0
    assert figures["target"]["new"] == 60 and figures["target"]["short"] == 0
    rarest = figures["rarest"]
    assert [row["after"] for row in rarest] == sorted(row["after"] for row in rarest)
    assert all(row["before"] > 0 and row["id"] >= 400 for row in rarest) and len(rarest) == 10
    assert f"{before['tokens']:,}" in outcome.out and repr(rarest[0]["piece"]) in outcome.out
    assert "of 60 new tokens occur at least 5 times" in outcome.out


def test_one_source_is_chosen_from_and_a_run_can_follow(select, desk, tmp_path):
    assert select("--source=xx", "--by=documents", "--temperature=0").status == 0
    xx, en = read_order(tmp_path / "my.order").sources
    assert en.documents is None and 150 < len(xx.documents) < 200
    assert (np.diff(xx.documents) > 0).all()
    stage = [f"--config={desk}/stage.py", f"--config.data.order={tmp_path}/my.order"]
    out = ["--config.steps=1", f"--config.out={tmp_path}/run", "--config.data.train="]
    outcome = call("maxlite.train", *stage, *out, "--dry_run")
    assert outcome.status == 0 and f"{len(xx.documents)} documents" in outcome.err, outcome.err


def test_keys_of_the_stage_and_repetition(select, tmp_path):
    both = ["--source=en,xx", "--share=0.9", "--config.data.held_out=0"]
    assert select(*both).status == 0
    first = json.loads((tmp_path / "figures.json").read_text())
    assert first["before"]["documents"] == 800 and list(first["sources"]) == ["en", "xx"]
    assert first["after"]["new_share"] > first["before"]["new_share"] > 0
    assert select(*both, "--overwrite").status == 0
    assert json.loads((tmp_path / "figures.json").read_text()) == first


def test_dry_run_writes_nothing(select, tmp_path):
    outcome = select("--dry_run", "--source=xx")
    assert outcome.status == 0 and "of xx for 60 new tokens" in outcome.err
    assert not list(tmp_path.iterdir())


def test_bad_input_is_refused(select, desk, tmp_path):
    before = snapshot(desk)

    def refused(*arguments):
        sentence = select(*arguments).sentence
        assert not list(tmp_path.iterdir()) and snapshot(desk) == before
        return sentence

    def refused_at_once(*arguments):
        sentence = refused(*arguments)
        assert refused(*arguments, "--dry_run") == sentence
        return sentence

    assert "'none' is none of xx, en" in refused_at_once("--source=xx,none")
    assert "'xx' is named twice" in refused_at_once("--source=xx,xx")
    assert "the stage has xx, en" in refused_at_once()
    assert "share=0 must be above 0" in refused_at_once("--source=xx", "--share=0")
    assert "share" in refused_at_once("--share=1.5")
    assert "base_rows=460 leaves no new token" in refused_at_once("--source=xx", "--base_rows=460")
    assert "temperature=nan" in refused_at_once("--source=xx", "--temperature=nan")
    assert "'xy'" in refused_at_once("--config.xy=3")
    assert "does not say which tokens are new" in refused_at_once(
        "--config.model=", f"--config.data.tokenizer={desk}/new"
    )
    assert "no document of source 'en' is chosen" in refused("--source=en,xx", "--share=0.1")
    assert "--out" in call(TOOL, f"--config={desk}/stage.py").sentence
    (tmp_path / "my.order").mkdir()
    assert "exists" in select("--source=xx").sentence
    for more in ((), ("--dry_run",)):
        assert "is no order" in select("--source=xx", "--overwrite", *more).sentence
