"""Generation: token by token through the cache, the same as without one."""

import itertools
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite import generate
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.generate import Generator, Request, check_sampling, choose, prompt_ids, stop_ids
from maxlite.model import llama
from maxlite.state.ready import ready_model
from maxlite.tokenizer import load_tokenizer

ARCH = Architecture(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=24,
)
ROWS = 37  # of the tokenizer; three more are padding
BIND = partial(llama.bind, ARCH, dtype=jnp.float32)
PROMPT = [5, 11, 3, 29]


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(1)
    drawn = {
        name: 0.4 * rng.standard_normal(shape, np.float32)
        for name, shape in llama.shapes(ARCH).items()
    }
    return {name: jnp.asarray(x + name.endswith("norm.weight")) for name, x in drawn.items()}


@pytest.fixture(scope="module")
def generator():
    return Generator(BIND, ARCH, ROWS, jnp.float32)


@pytest.fixture(scope="module")
def logits():
    """logits(params, ids): of the next token after ids, without a cache; compiled once."""

    @jax.jit
    def whole(params, tokens):
        model = BIND(params, {})
        return model.logits(model(tokens))[0]

    def after(params, ids):
        tokens = np.zeros((1, ARCH.max_position_embeddings), np.int32)
        tokens[0, : len(ids)] = ids  # what comes later is not seen
        return np.asarray(whole(params, tokens))[len(ids) - 1]

    return after


def test_greedy_is_the_argmax_of_the_uncached_model(generator, params, logits):
    ids, margins = list(PROMPT), []
    for token in generator(params, {}, PROMPT, 20):
        row = logits(params, ids)[:ROWS]
        assert token == int(row.argmax())
        top = np.sort(row)[-2:]
        margins.append(top[1] - top[0])
        ids.append(token)
    assert len(ids) == 24
    assert min(margins) > 1e-4  # no tie that only rounding decides


def test_rows_beyond_the_tokenizer_are_never_chosen(generator, params, logits):
    """Padding rows that would win every time."""
    favoured = dict(params)
    head = np.asarray(params["lm_head.weight"]).copy()
    head[ROWS:] = 50 * head[7]
    favoured["lm_head.weight"] = jnp.asarray(head)
    assert (
        logits(favoured, PROMPT).argmax() >= ROWS or logits(favoured, [*PROMPT, 1]).argmax() >= ROWS
    )
    for temperature in (0.0, 5.0):
        new = list(generator(favoured, {}, PROMPT, 20, temperature=temperature))
        assert max(new) < ROWS


def test_the_same_seed_gives_the_same_text(generator, params):
    def sample(seed, temperature=2.0):
        return list(generator(params, {}, PROMPT, 20, temperature=temperature, seed=seed))

    greedy = list(generator(params, {}, PROMPT, 20))
    assert sample(0) == sample(0)
    assert sample(0) != sample(1)
    assert sample(-1) == sample(2**32 - 1)
    assert sample(0, temperature=0.0) == sample(1, temperature=0.0) == greedy
    assert sample(3, temperature=1e-5) == greedy


def test_a_prompt_continued_is_the_text_continued(generator, params):
    """Prefill of ten tokens, or of four and six single steps."""
    first = list(generator(params, {}, PROMPT, 20))
    assert list(generator(params, {}, [*PROMPT, *first[:6]], 14)) == first[6:]


def test_it_ends_at_a_stop_token(generator, params):
    whole = list(generator(params, {}, PROMPT, 20))
    stop = next(t for i, t in enumerate(whole) if i > 2 and t not in whole[:i])
    cut = list(generator(params, {}, PROMPT, 20, stop={stop, 9999}))
    assert cut == whole[: whole.index(stop)]
    assert list(generator(params, {}, PROMPT, 20, stop={whole[0]})) == []


@pytest.mark.parametrize(
    ("prompt", "new", "said"),
    [
        ([1] * 5, 20, r"5 tokens and 20 new ones .* 24; lower --max_new_tokens"),
        ([1] * 24, 1, r"24 tokens leaves no room .* shorten"),
        ([1] * 30, -6, r"30 tokens leaves no room .* 24; shorten"),
        ([], 5, "prompt is empty"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_generated(
    prompt, new, said, generator, params
):
    with pytest.raises(InputError, match=said):
        generator(params, {}, prompt, new)


def test_what_fits_exactly(generator, params):
    assert len(list(generator(params, {}, PROMPT, 20))) == 20


def test_several_texts_at_once_are_those_of_their_seeds(generator, params):
    settings = {"temperature": 1.0, "top_p": 0.9}
    seeds = [3, 11, 4]
    one_by_one = [list(generator(params, {}, PROMPT, 20, seed=s, **settings)) for s in seeds]
    assert len({tuple(text) for text in one_by_one}) == 3
    assert generator.several(params, {}, [PROMPT] * 3, 20, seeds=seeds, **settings) == one_by_one
    stop = {one_by_one[0][5], one_by_one[2][0]}
    cut = [list(itertools.takewhile(lambda t: t not in stop, text)) for text in one_by_one]
    settings |= {"stop": stop}
    assert generator.several(params, {}, [PROMPT] * 3, 20, seeds=seeds, **settings) == cut
    with pytest.raises(InputError, match="prompt is empty"):
        generator.several(params, {}, [PROMPT, []], 5, **settings)


def test_prompts_of_different_lengths_share_a_batch(generator, params, logits):
    """What fills up the shorter ones is not seen, and each ends by itself."""
    prompts = [PROMPT, [7], list(range(17))]
    alone = [list(generator(params, {}, prompt, 6)) for prompt in prompts]
    assert generator.several(params, {}, prompts, 6) == alone
    ids = [*prompts[2]]
    for token in alone[2]:
        assert token == int(logits(params, ids)[:ROWS].argmax())
        ids.append(token)
    stop = {alone[1][0], alone[0][3]}
    cut = [list(itertools.takewhile(lambda t: t not in stop, text)) for text in alone]
    assert len({len(text) for text in cut}) > 1
    assert generator.several(params, {}, prompts, 6, stop=stop) == cut
    with pytest.raises(InputError, match=r"17 tokens and 20 new ones .* 24"):
        generator.several(params, {}, prompts, 20)


def test_it_is_compiled_once_for_many_lengths(params):
    """Whatever the prompts, the number of new tokens and what ends a text, within a size."""
    generator = Generator(BIND, ARCH, ROWS, jnp.float32)
    list(generator(params, {}, PROMPT, 9))
    list(generator(params, {}, PROMPT[:2], 5, temperature=1.0, top_p=0.5, seed=3, stop={1, 2}))
    generator.several(params, {}, [[1] * 16], 16 - 8)
    assert (generator._begin._cache_size(), generator._go_on._cache_size()) == (1, 1)


def test_the_loop_ends_with_the_last_text(generator, params):
    whole = list(generator(params, {}, PROMPT, 20))
    asked = generate._request([0], 0.0, 1.0, {whole[2]})
    state = generator._begun((params, {}), [PROMPT], 20, asked)
    state = generator._go_on((params, {}), state, asked, np.int32(20))
    assert int(state.done) == 3 and np.asarray(state.new_BN)[0, :4].tolist() == [*whole[:2], -1, -1]


# --- sampling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "top_p"),
    [
        (-0.1, 1),
        (0, 0),
        (1, 1.01),
        (1, -1),
        (float("nan"), 1),
        (1, float("nan")),
        (float("inf"), 1),
    ],
)
def test_settings_without_a_meaning(temperature, top_p):
    with pytest.raises(InputError, match="top_p"):
        check_sampling(temperature, top_p)
    check_sampling(0.0, 1.0)
    check_sampling(3.0, 0.001)


@pytest.fixture(scope="module")
def draws():
    """draws(logits, temperature, top_p): how often each token comes in 4,000 draws."""

    @jax.jit
    def many(logits, temperature, top_p):
        knobs = jnp.array([temperature, top_p])
        asked = Request(jnp.arange(4000, dtype=jnp.uint32), knobs, jnp.array([-1]))
        return choose(jnp.tile(logits, (4000, 1)), jnp.int32(0), asked)

    def count(logits, temperature, top_p):
        drawn = many(jnp.asarray(logits, jnp.float32), np.float32(temperature), np.float32(top_p))
        return np.bincount(np.asarray(drawn), minlength=len(logits)) / 4000

    return count


P = np.array([0.1, 0.4, 0.2, 0.0, 0.3])


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (1.0, [0.1, 0.4, 0.2, 0.0, 0.3]),
        (0.91, [0.1, 0.4, 0.2, 0.0, 0.3]),  # the last one is needed to reach it
        (0.89, [0.0, 4 / 9, 2 / 9, 0.0, 3 / 9]),
        (0.69, [0.0, 4 / 7, 0.0, 0.0, 3 / 7]),
        (0.39, [0.0, 1.0, 0.0, 0.0, 0.0]),
        (1e-9, [0.0, 1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_nucleus_sampling(top_p, expected, draws):
    with np.errstate(divide="ignore"):
        found = draws(np.log(P), 1.0, top_p)
    np.testing.assert_allclose(found, expected, atol=0.04)
    assert not found[np.array(expected) == 0].any()


def test_temperature_flattens_and_sharpens(draws):
    with np.errstate(divide="ignore"):
        logits = np.log(P)
    for temperature in (0.5, 1.0, 4.0):
        powered = P ** (1 / temperature)
        np.testing.assert_allclose(
            draws(logits, temperature, 1.0), powered / powered.sum(), atol=0.04
        )
    assert draws(logits, 0.0, 1.0)[1] == 1.0


# --- with a tokenizer and a folder ---------------------------------------------------------------


def test_prompts_begin_with_bos(tiny_tokenizer):
    tokenizer = load_tokenizer(tiny_tokenizer)
    assert prompt_ids(tokenizer, "") == [1]
    text = prompt_ids(tokenizer, "the cat")
    assert text[0] == 1 and tokenizer.decode(text[1:]) == "the cat"
    tokenizer.bos = None
    assert prompt_ids(tokenizer, "") == []
    assert prompt_ids(tokenizer, "the cat") == text[1:]


def test_every_end_token_a_model_names_is_one(tiny_folder):
    folder = tiny_folder(eos_token_id=[2, 7])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    ready = ready_model(str(folder), weights=False)
    assert stop_ids(ready.tokenizer, ready.source) == {1, 2, 7, 9}
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": None}))
    assert stop_ids(ready.tokenizer, ready.source) == {1, 2, 7}
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config\.json"):
        stop_ids(ready.tokenizer, ready.source)
