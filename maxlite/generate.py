"""Text from a model: prompts go in at once, then one token at a time through the KV cache.

Both are compiled once for a shape, and few shapes there are: prompts are filled up on the left, and
the room for new tokens on the right, to sizes that double. The tokens come from one loop on the
devices, which is left to tell of them and when all texts have ended.

Letters: B texts at a time, S tokens of the longest prompt, N new tokens at most, V vocabulary rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import json_values
from maxlite.model import llama
from maxlite.model.cache import Cache
from maxlite.model.layout import constrain
from maxlite.state.source import ModelSource
from maxlite.tokenizer import Tokenizer

Params = dict[str, jax.Array]
Weights = tuple[Params, Params]  # those that train, and the frozen ones
_SMALLEST = 16  # tokens that a prompt, and what follows, have room for at least
_MOMENT = 0.1  # seconds: a person sees no jerks
_SEVERAL = 8  # tokens at a time where a clock may not say how many


class Request(NamedTuple):
    """What is asked of a batch of texts; all but the prompts may change from token to token."""

    seeds_B: Any  # uint32
    knobs: Any  # float32 [temperature, top_p]
    stop: Any  # int32 [Z]: ids that end a text; -1 is none


class State(NamedTuple):
    """B texts on their way, with room for N new tokens each."""

    cache: Cache
    new_BN: jax.Array  # int32: the new tokens; -1 from where a text has ended, or is not yet
    going_B: jax.Array  # bool
    lengths_B: jax.Array  # int32: tokens of each prompt
    done: jax.Array  # int32: new tokens so far


def check_sampling(temperature: float, top_p: float) -> None:
    """Refuses sampling settings without a meaning.

    Raises:
      InputError: a temperature below 0, or a top_p that is not above 0 and at most 1.
    """
    if not 0 <= temperature < math.inf or not 0 < top_p <= 1:
        raise InputError(
            f"temperature {temperature} and top_p {top_p} cannot be used: temperature is at least "
            "0 (0 is greedy), top_p above 0 and at most 1"
        )


def choose(logits_BV: jax.Array, done: jax.Array, asked: Request) -> jax.Array:
    """The next token id of each text: the largest logit at temperature 0, else nucleus sampling.

    Nucleus sampling (arXiv 1904.09751, section 3.1) draws from the smallest set of most likely
    tokens whose probability reaches `top_p`.

    Args:
      logits_BV: float32.
      done: tokens drawn before, which the draw depends on beside the text's seed.
      asked: temperature, top_p and seeds.

    Returns:
      int32 [B].
    """
    temperature, top_p = asked.knobs

    def draw(logits_V: jax.Array, seed: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), done)
        scaled_V = logits_V / jnp.maximum(temperature, 1e-6)
        order_V = jnp.argsort(-scaled_V)
        probability_V = jax.nn.softmax(scaled_V[order_V])
        before_V = jnp.cumsum(probability_V) - probability_V
        kept_V = jnp.where(before_V < top_p, scaled_V[order_V], -jnp.inf)
        return order_V[jax.random.categorical(key, kept_V)]

    return jax.lax.cond(  # sorting the vocabulary takes longer than a small model
        temperature == 0,
        lambda: jnp.argmax(logits_BV, axis=-1).astype(jnp.int32),
        lambda: jax.vmap(draw)(logits_BV, asked.seeds_B).astype(jnp.int32),
    )


class Generator:
    """Generates from one model.

    Args:
      bind: (params, frozen) -> model.
      arch: the model's shape.
      rows: ids from here on (rows beyond the tokenizer) are never chosen.
      dtype: of the cache.
    """

    def __init__(
        self, bind: Callable[[Params, Params], Any], arch: Architecture, rows: int, dtype: Any
    ):
        self._bind, self._arch, self._rows, self._dtype = bind, arch, rows, dtype
        self._begin = jax.jit(self._prefill, static_argnames="room")
        self._go_on = jax.jit(self._loop, donate_argnums=1)

    def __call__(
        self,
        params: Params,
        frozen: Params,
        prompt: Sequence[int],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Collection[int] = (),
    ) -> Iterator[int]:
        """The new token ids, as they come, until one of `stop` (not given) or `max_new_tokens`.

        Raises:
          InputError: no prompt, or it and the new tokens are longer than the model's context.
        """
        self._check([prompt], max_new_tokens, temperature, top_p)
        asked = _request([seed], temperature, top_p, stop)
        return self._stream((params, frozen), prompt, max_new_tokens, asked)

    def several(
        self,
        params: Params,
        frozen: Params,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seeds: Sequence[int] | None = None,
        stop: Collection[int] = (),
        enough: Callable[[list[list[int]]], bool] | None = None,
    ) -> list[list[int]]:
        """The new token ids of several texts, computed together.

        Args:
          params, frozen: the arrays that `bind` takes.
          prompts: token ids of each.
          max_new_tokens: of each.
          temperature, top_p: see `choose`.
          seeds: one a text, whose draws it shares with no other; None: 0 for all.
          stop: ids that end a text, and are not given.
          enough: asked every few tokens whether the new tokens that there are, of each text, will
            do; None: they never do.

        Raises:
          InputError: as for one text.
        """
        self._check(prompts, max_new_tokens, temperature, top_p)
        asked = _request(seeds or [0] * len(prompts), temperature, top_p, stop)
        weights = params, frozen
        state = self._begun(weights, prompts, max_new_tokens, asked)
        several = _SEVERAL if enough else max_new_tokens
        for until in range(several, max_new_tokens + several, several):
            until = min(until, max_new_tokens)
            state = self._go_on(weights, state, asked, np.int32(until))
            new_BN = np.asarray(state.new_BN)[:, :until]
            found = [row[row >= 0].tolist() for row in new_BN]
            if (new_BN[:, -1] < 0).all() or (enough and enough(found)):
                break
        return found

    def _check(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        temperature: float,
        top_p: float,
    ) -> None:
        check_sampling(temperature, top_p)
        if not all(prompts):
            raise InputError(
                "the prompt is empty and the tokenizer has no BOS token; give a prompt"
            )
        context, longest = self._arch.max_position_embeddings, max(map(len, prompts))
        if longest >= context:
            raise InputError(
                f"a prompt of {longest} tokens leaves no room for new ones in the model's "
                f"context of {context}; shorten it"
            )
        if longest + max_new_tokens > context:
            raise InputError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones are more than the "
                f"model's context of {context}; lower --max_new_tokens"
            )

    def _stream(
        self, weights: Weights, prompt: Sequence[int], max_new_tokens: int, asked: Request
    ) -> Iterator[int]:
        """As many tokens at a time as come within a moment, which begins with one."""
        alone = jax.process_count() == 1
        state, told, more = None, 0, 1 if alone else _SEVERAL
        while told < max_new_tokens:
            began = time.monotonic()
            state = state or self._begun(weights, [prompt], max_new_tokens, asked)
            until = min(told + more, max_new_tokens)
            state = self._go_on(weights, state, asked, np.int32(until))
            new = np.asarray(state.new_BN)[0, told:until]
            yield from new[new >= 0].tolist()
            if (new < 0).any():
                return
            told = until
            if alone and time.monotonic() - began < _MOMENT:
                more *= 2

    def _begun(
        self,
        weights: Weights,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        asked: Request,
    ) -> State:
        """The prompts read, and the first new token of each."""
        lengths_B = np.array([len(prompt) for prompt in prompts], np.int32)
        tokens_BS = np.zeros((len(prompts), _room(int(lengths_B.max()))), np.int32)
        for row, prompt in zip(tokens_BS, prompts, strict=True):
            row[-len(prompt) :] = prompt
        room = _room(max_new_tokens)
        return self._begin(weights, tokens_BS, lengths_B, asked, room=room)

    def _prefill(
        self,
        weights: Weights,
        tokens_BS: jax.Array,
        lengths_B: jax.Array,
        asked: Request,
        *,
        room: int,
    ) -> State:
        B, S = tokens_BS.shape
        places_S = jnp.arange(S, dtype=jnp.int32)
        positions_BS = places_S - (S - lengths_B[:, None])
        segments_BS = (positions_BS >= 0).astype(jnp.int32)  # 0: what fills up
        state = State(
            llama.init_cache(self._arch, B, S + room, self._dtype),
            jnp.full((B, room), -1, jnp.int32),
            jnp.ones(B, bool),
            lengths_B,
            jnp.int32(0),
        )
        positions_BS = jnp.maximum(positions_BS, 0)
        return self._advance(weights, state, asked, tokens_BS, positions_BS, segments_BS)

    def _loop(self, weights: Weights, state: State, asked: Request, until: jax.Array) -> State:
        def unfinished(state: State) -> jax.Array:
            return (state.done < until) & state.going_B.any()

        def step(state: State) -> State:
            last_B1 = jax.lax.dynamic_slice_in_dim(state.new_BN, state.done - 1, 1, axis=1)
            positions_B1 = (state.lengths_B + state.done - 1)[:, None]
            tokens_B1 = jnp.maximum(last_B1, 0)  # of a text that has ended, any
            ones_B1 = jnp.ones_like(tokens_B1)
            return self._advance(weights, state, asked, tokens_B1, positions_B1, ones_B1)

        return jax.lax.while_loop(unfinished, step, state)

    def _advance(
        self,
        weights: Weights,
        state: State,
        asked: Request,
        tokens_BS: jax.Array,
        positions_BS: jax.Array,
        segments_BS: jax.Array,
    ) -> State:
        """Reads tokens, and chooses what follows the last of each text."""
        model = self._bind(*weights)
        hidden_BSD, cache = model(tokens_BS, positions_BS, segments_BS, state.cache)
        logits_BV = model.logits(hidden_BSD[:, -1:])[:, 0]
        logits_BV = jnp.where(jnp.arange(logits_BV.shape[1]) < self._rows, logits_BV, -jnp.inf)
        chosen_B = constrain(choose(logits_BV, state.done, asked), None)
        going_B = state.going_B & (chosen_B[:, None] != asked.stop).all(axis=1)
        new_B1 = jnp.where(going_B, chosen_B, -1)[:, None]
        new_BN = jax.lax.dynamic_update_slice_in_dim(state.new_BN, new_B1, state.done, axis=1)
        # On every device whole, so that each process of a job can read it.
        new_BN = constrain(new_BN, None, None)
        return State(cache, new_BN, going_B, state.lengths_B, state.done + 1)


def _room(tokens: int) -> int:
    """The size that so many tokens are filled up to."""
    return max(_SMALLEST, 1 << (tokens - 1).bit_length())


def _request(
    seeds: Sequence[int], temperature: float, top_p: float, stop: Collection[int]
) -> Request:
    ids = sorted(stop)
    ids += [-1] * (_room(len(ids) or 1) - len(ids))  # or their number would be compiled, too
    return Request(
        np.array([seed % 2**32 for seed in seeds], np.uint32),
        np.array([temperature, top_p], np.float32),
        np.array(ids, np.int32),
    )


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """BOS, if the tokenizer has one, and the prompt's tokens."""
    bos = [] if tokenizer.bos is None else [tokenizer.bos]
    return bos + [int(t) for t in tokenizer.encode([prompt])[0]] if prompt else bos


def stop_ids(tokenizer: Tokenizer, source: ModelSource) -> set[int]:
    """What ends a text: EOS (a model may name several), and BOS, which begins another document."""
    found = {tokenizer.eos, tokenizer.bos}
    configs = [source.config]
    if "generation_config.json" in source.files:
        file = source.files["generation_config.json"]
        text = file if isinstance(file, bytes) else file.read_bytes()
        configs.append(json_values.parse(text, f"generation_config.json of {source.where}"))
    for config in configs:
        eos = config.get("eos_token_id")
        found |= set(eos) if isinstance(eos, list) else {eos}
    return {token for token in found if token is not None}
