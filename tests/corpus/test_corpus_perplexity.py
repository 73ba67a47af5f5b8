"""Which texts stay, given what a model thinks of them; and n-gram models by their definition."""

import math
import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.perplexity import BestPredicted, Perplexity
from maxlite.errors import InputError


def opened(path):
    """Stands for a model: the text says what its bits are."""
    assert path.endswith("model")
    return lambda texts: np.array([float(text) for text in texts])


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    return str(tmp_path / "model")


def made(kind, **settings):
    step = kind(**settings)
    step.check()
    step.load_scorer = opened
    return pickle.loads(pickle.dumps(step))


def reasons(results):
    return [reason for _, reason in results]


def test_texts_outside_a_range_are_dropped(model):
    texts = ["0.1", "0.5", "1", "1.5", "1.6"]
    step = made(Perplexity, model=model, min_bits=0.5, max_bits=1.5)
    low, high = "perplexity too low", "perplexity too high"
    assert step.apply(texts) == list(zip(texts, [low, "", "", "", high], strict=True))
    assert reasons(made(Perplexity, model=model, max_bits=1).apply(texts)) == [""] * 3 + [high] * 2
    assert reasons(made(Perplexity, model=model, min_bits=1).apply(texts)) == [low] * 2 + [""] * 3
    assert step.name == "perplexity"
    assert step.settings() == {
        "model": model, "kenlm": "", "tokenizer": "", "min_bits": 0.5, "max_bits": 1.5
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(step)).apply(texts) == step.apply(texts)


def best(step, shards):
    """The three passes, as they are run on shards."""
    signed = [np.concatenate([step.sign(shard[:2]), step.sign(shard[2:])]) for shard in shards]
    parts = step.match_parts(sum(map(len, signed)))
    matches = [step.match(part, parts, signed) for part in range(parts)]
    kept = []
    for shard, verdict in zip(shards, step.resolve(signed, matches), strict=True):
        results = step.judge(shard[:3], verdict, 0) + step.judge(shard[3:], verdict, 3)
        assert set(reasons(results)) <= {"", "perplexity too high"}
        kept += [text for text, reason in results if not reason]
    return kept


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 30).map(lambda n: str(n / 8)), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([0.01, 0.3, 0.5, 0.7, 0.9, 0.99]),
)
def test_the_best_share_of_all_is_kept(texts, borders, keep):
    step = BestPredicted(model="model", keep=keep)
    step.load_scorer = opened
    cut = [0, *sorted(min(b, len(texts)) for b in borders), len(texts)]
    shards = [texts[a:b] for a, b in pairwise(cut)]
    wanted = math.ceil(round(keep * len(texts), 6))
    limit = sorted(map(float, texts))[wanted - 1]
    assert best(step, shards) == [text for text in texts if float(text) <= limit]


def test_signatures_are_of_one_kind(model):
    step = made(BestPredicted, model=model)
    assert step.name == "best predicted"
    for texts in ([], ["1"], ["1", "2"]):
        assert step.sign(texts).dtype == np.float32 and step.sign(texts).shape == (len(texts),)
    assert step.resolve([], []) == []
    (verdict,) = step.resolve([step.sign([])], [])
    assert step.judge([], verdict, 0) == []


def test_a_model_that_gives_no_number_is_refused(model):
    for kind, asked in ((Perplexity, {"max_bits": 2.0}), (BestPredicted, {})):
        step = made(kind, model=model, **asked)
        run = step.apply if kind is Perplexity else step.sign
        for wrong in ("nan", "inf"):
            with pytest.raises(InputError, match=f"model gives no finite probability to '{wrong}'"):
                run(["1", wrong])


def test_bad_settings_are_refused(model, tmp_path):
    for kind, wrong, said in (
        (Perplexity, {"max_bits": 1.0}, "either a model or"),
        (Perplexity, {"model": model, "kenlm": "x", "max_bits": 1.0}, "either a model or"),
        (Perplexity, {"model": f"{model}x", "max_bits": 1.0}, "no such folder"),
        (Perplexity, {"kenlm": f"{model}x", "max_bits": 1.0}, "no such file"),
        (Perplexity, {"model": model, "tokenizer": "x", "max_bits": 1.0}, "is for kenlm"),
        (Perplexity, {"model": model}, "nothing would be dropped"),
        (Perplexity, {"model": model, "min_bits": -1.0}, "at least 0"),
        (Perplexity, {"model": model, "min_bits": 2.0, "max_bits": 1.0}, "above min_bits"),
        (Perplexity, {"model": model, "max_bits": math.nan}, "above min_bits"),
        (BestPredicted, {"model": model, "keep": 1.0}, "all or nothing"),
        (BestPredicted, {"model": model, "keep": 0.0}, "all or nothing"),
        (BestPredicted, {"model": model, "keep": 1.5}, "from 0 to 1"),
        (BestPredicted, {}, "either a model or"),
    ):
        with pytest.raises(InputError, match=said):
            kind(**wrong).check()


# Decades of probability; what is not listed as a pair backs off.
ONE = {"<unk>": -2.0, "<s>": -99.0, "</s>": -1.0, "가": -0.5, "나": -0.7, "▁a": -1.1}
BACK_OFF = {"<s>": -0.3, "가": -0.2}
TWO = {("<s>", "가"): -0.25, ("가", "나"): -0.125, ("나", "</s>"): -0.375}


@pytest.fixture
def arpa(tmp_path):
    rows = [f"\\data\\\nngram 1={len(ONE)}\nngram 2={len(TWO)}\n\n\\1-grams:"]
    rows += [f"{p}\t{word}\t{BACK_OFF.get(word, 0)}" for word, p in ONE.items()]
    rows += ["\n\\2-grams:", *(f"{p}\t{a} {b}" for (a, b), p in TWO.items()), "\n\\end\\\n"]
    (tmp_path / "lm.arpa").write_text("\n".join(rows), "utf-8")
    return str(tmp_path / "lm.arpa")


def decades(words):
    words = [word if word in ONE else "<unk>" for word in words]
    pairs = list(zip(["<s>", *words], [*words, "</s>"], strict=True))
    return sum(TWO.get(pair, BACK_OFF.get(pair[0], 0) + ONE[pair[1]]) for pair in pairs)


def test_bits_of_an_n_gram_model(arpa):
    pytest.importorskip("kenlm")
    texts = ["가 나", "나 가 나 다", "가 나\n\n나 다"]
    sentences = [[["가", "나"]], [["나", "가", "나", "다"]], [["가", "나"], ["나", "다"]]]
    found = Perplexity(kenlm=arpa, max_bits=9).bits(texts)
    wanted = [
        -sum(map(decades, words)) * math.log2(10) / len(text.encode())
        for text, words in zip(texts, sentences, strict=True)
    ]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_an_n_gram_model_of_pieces(arpa, tiny_tokenizer):
    pytest.importorskip("kenlm")
    (found,) = Perplexity(kenlm=arpa, tokenizer=str(tiny_tokenizer), max_bits=9).bits(["a a"])
    assert found == pytest.approx(-decades(["▁a", "▁a"]) * math.log2(10) / 3)


def test_what_kenlm_cannot_read(tmp_path):
    pytest.importorskip("kenlm")
    (tmp_path / "lm.arpa").write_text("no model\n")
    with pytest.raises(InputError, match=r"lm\.arpa is not a model that kenlm can read"):
        Perplexity(kenlm=str(tmp_path / "lm.arpa"), max_bits=9).bits(["a"])


def test_kenlm_is_asked_for_where_it_is_missing(arpa, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(InputError, match="pip install kenlm"):
        Perplexity(kenlm=arpa, max_bits=9).bits(["a"])
