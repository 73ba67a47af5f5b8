"""Scores against the definition, one token at a time, whatever shares a row or a mesh."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.config import Architecture, Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.view import View
from maxlite.model import llama
from maxlite.score import Score, Scorer
from maxlite.state import mesh as mesh_lib
from maxlite.tokenizer import load_tokenizer

ARCH = Architecture(
    vocab_size=400,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    max_position_embeddings=64,
)
WINDOW = 16
BIND = partial(llama.bind, ARCH, dtype=jnp.float32)
WORDS = "the cat sees a red boat in the morning and 한국어 again".split()


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    drawn = {
        name: 0.5 * rng.standard_normal(shape, np.float32)
        for name, shape in llama.shapes(ARCH).items()
    }
    return {name: jnp.asarray(x + name.endswith("norm.weight")) for name, x in drawn.items()}


@pytest.fixture(scope="module")
def texts():
    """Documents of one word to several windows."""
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, n)) for n in (1, 40, 3, 7, 25, 2, 2, 60, 11)]


@pytest.fixture(scope="module")
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


@pytest.fixture(scope="module")
def view(texts, tokenizer, tmp_path_factory):
    """view(bos): the documents, with or without a BOS before each."""
    file = tmp_path_factory.mktemp("score") / "text.jsonl"
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    cache = tokenize(Source(glob=str(file)), tokenizer, Data(), False)
    return lambda bos=True: View(cache, tokenizer.bos if bos else None, tokenizer.eos)


@pytest.fixture(scope="module")
def expected(params, texts, tokenizer):
    """expected(bos, stride): nats of each document's scored tokens, from the definition.

    The windows of a document begin at 0, stride, 2 stride, …; a token is scored by the first window
    that holds it, from the tokens before it in that window.
    """

    @jax.jit
    def log_probabilities(rows):
        model = BIND(params, {})
        return jax.nn.log_softmax(model.logits(model(rows)))

    def nats(bos, stride):
        rows, targets = [], []
        for number, text in enumerate(texts):
            ids = [tokenizer.bos] * bos + tokenizer.encode_one(text).tolist()
            for at in range(1, len(ids)):
                start = stride * max(0, math.ceil((at - WINDOW) / stride))
                before = ids[start:at]
                rows.append(before + [0] * (WINDOW - len(before)))
                targets.append((number, len(before) - 1, ids[at]))
        log = np.asarray(log_probabilities(np.array(rows, np.int32)), np.float64)
        found = [[] for _ in texts]
        for row, (number, place, target) in zip(log, targets, strict=True):
            found[number].append(-row[place, target])
        return found

    return nats


@pytest.fixture(scope="module")
def scorer():
    """scorer(mesh, rows, stride): kept, because each compiles once."""
    made = {}

    def get(mesh="fsdp=8", rows=8, stride=0):
        key = mesh, rows, stride
        if key not in made:
            devices = jax.devices()[:1] if mesh == "fsdp=1" else jax.devices()
            made[key] = Scorer(BIND, mesh_lib.make_mesh(mesh, devices), rows, WINDOW, stride)
        return made[key]

    return get


@pytest.mark.parametrize(("bos", "stride"), [(True, 0), (True, 5), (True, 16), (False, 0)])
def test_scores_are_those_of_the_definition(bos, stride, scorer, view, expected, params):
    found = scorer(stride=stride)(params, {}, view(bos))
    nats = expected(bos, stride or WINDOW // 2)
    assert found.scored == sum(map(len, nats))
    assert found.nll == pytest.approx(sum(map(sum, nats)), rel=1e-5)
    assert max(map(len, nats)) > 5 * WINDOW  # there were documents of many windows


def test_every_token_counts_once(scorer, view, texts, tokenizer, params):
    counts = [len(ids) for ids in tokenizer.encode(texts)]
    with_bos, without = (scorer()(params, {}, view(bos)) for bos in (True, False))
    assert with_bos.scored == with_bos.tokens == without.tokens == sum(counts)
    assert without.scored == sum(counts) - len(counts)  # nothing stands before the first token
    for score in (with_bos, without):
        assert score.bytes == sum(len(t.encode()) for t in texts)
        assert score.chars == sum(len(t) for t in texts)
        assert score.documents == len(texts)


def test_packed_documents_do_not_see_each_other(scorer, view, expected, params):
    """Each document alone gives what all of them packed into shared rows give together."""
    whole = view()
    alone = [
        scorer()(params, {}, View(whole.cache, whole.bos, whole.eos, np.array([i])))
        for i in range(len(whole))
    ]
    for score, nats in zip(alone, expected(True, WINDOW // 2), strict=True):
        assert score.nll == pytest.approx(sum(nats), rel=1e-5)
        assert score.scored == len(nats)
    together, total = scorer()(params, {}, whole), sum(alone[1:], alone[0])
    assert together.nll == pytest.approx(total.nll, rel=1e-5)
    assert vars(together) | {"nll": 0} == vars(total) | {"nll": 0}


def test_neither_rows_nor_mesh_matter(scorer, view, params):
    one = scorer("fsdp=1", 3)(params, {}, view())
    for mesh in ("fsdp=8", "data=2,fsdp=2,sequence=2"):
        other = scorer(mesh)(params, {}, view())
        assert one.nll == pytest.approx(other.nll, rel=1e-6)
        assert one.scored == other.scored


def test_a_limit_takes_documents_from_everywhere(scorer, view, expected, texts, params):
    found = scorer()(params, {}, view(), limit=3)
    nats = expected(True, WINDOW // 2)
    assert found.documents == 3
    assert found.nll == pytest.approx(sum(sum(nats[i]) for i in (0, 3, 6)), rel=1e-5)
    assert found.bytes == sum(len(texts[i].encode()) for i in (0, 3, 6))
    assert scorer()(params, {}, view(), limit=99).documents == len(texts)


def test_figures():
    score = Score(nll=40 * math.log(2), scored=10, tokens=12, bytes=80, chars=48, documents=2)
    assert score.figures() == {
        "bits_per_byte": pytest.approx(0.5),
        "loss": pytest.approx(4 * math.log(2)),
        "tokens": 10,
        "bytes": 80,
        "tokens_per_char": 0.25,
        "documents": 2,
    }
    twice = score + score
    assert twice.figures() == score.figures() | {"tokens": 20, "bytes": 160, "documents": 4}


def test_nothing_to_score_is_no_division_by_zero(scorer, view, params):
    whole = view()
    score = scorer()(params, {}, View(whole.cache, whole.bos, whole.eos, np.array([], np.int64)))
    assert set(score.figures().values()) == {0}
