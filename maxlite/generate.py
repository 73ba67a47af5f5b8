"""Text from a model: a prompt goes in at once, then one token at a time through the KV cache.

Letters: B texts at a time, S tokens of the prompt, V vocabulary rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import json_values
from maxlite.model import llama
from maxlite.model.layout import constrain
from maxlite.state.source import ModelSource
from maxlite.tokenizer import Tokenizer

Params = dict[str, jax.Array]


def check_sampling(temperature: float, top_p: float) -> None:
    """Refuses sampling settings without a meaning."""
    if not 0 <= temperature < math.inf or not 0 < top_p <= 1:
        raise InputError(
            f"temperature {temperature} and top_p {top_p} cannot be used: temperature is at least "
            "0 (0 is greedy), top_p above 0 and at most 1"
        )


def choose(
    logits_V: jax.Array, key: jax.Array, temperature: jax.Array, top_p: jax.Array
) -> jax.Array:
    """The next token id: the largest logit at temperature 0, else nucleus sampling.

    Nucleus sampling (arXiv 1904.09751, section 3.1) draws from the smallest set of most likely
    tokens whose probability reaches `top_p`.
    """
    scaled = logits_V / jnp.maximum(temperature, 1e-6)
    order = jnp.argsort(-scaled)
    probability = jax.nn.softmax(scaled[order])
    before = jnp.cumsum(probability) - probability
    kept = jnp.where(before < top_p, scaled[order], -jnp.inf)
    sampled = order[jax.random.categorical(key, kept)]
    return jnp.where(temperature == 0, jnp.argmax(logits_V), sampled)


class Generator:
    """Generates from one model; compiled once a prompt length.

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
        self._first = jax.jit(self._begin, static_argnames="length")
        self._next = jax.jit(self._step, donate_argnums=2)

    def _begin(self, params, frozen, tokens_BS, seeds_B, i, knobs, *, length):
        cache = llama.init_cache(self._arch, len(seeds_B), length, self._dtype)
        return self._step(params, frozen, cache, tokens_BS, seeds_B, i, knobs)

    def _step(self, params, frozen, cache, tokens_BS, seeds_B, i, knobs):
        model = self._bind(params, frozen)
        hidden_BSD, cache = model(tokens_BS, cache=cache)
        logits_BV = model.logits(hidden_BSD[:, -1:])[:, 0]
        logits_BV = jnp.where(jnp.arange(logits_BV.shape[1]) < self._rows, logits_BV, -jnp.inf)
        keys_B = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), i))(seeds_B)
        new_B = jax.vmap(choose, (0, 0, None, None))(logits_BV, keys_B, knobs[0], knobs[1])
        # On every device whole, so that each process of a job can read it.
        return constrain(new_B, None), cache

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
        """The new token ids, one by one, until one of `stop` (not given) or `max_new_tokens`.

        Raises:
          InputError: no prompt, or it and the new tokens are longer than the model's context.
        """
        self._check(prompt, max_new_tokens, temperature, top_p)
        knobs = np.array([temperature, top_p], np.float32)
        steps = self._tokens(params, frozen, prompt, max_new_tokens, knobs, [seed])
        return itertools.takewhile(lambda token: token not in stop, (new for (new,) in steps))

    def several(
        self,
        params: Params,
        frozen: Params,
        prompt: Sequence[int],
        max_new_tokens: int,
        *,
        temperature: float,
        top_p: float,
        seeds: Sequence[int],
        stop: Collection[int] = (),
    ) -> list[list[int]]:
        """The new token ids of several texts from one prompt, computed together; one a seed.

        Raises:
          InputError: as for one text.
        """
        self._check(prompt, max_new_tokens, temperature, top_p)
        knobs = np.array([temperature, top_p], np.float32)
        texts: list[list[int]] = [[] for _ in seeds]
        going = [True] * len(seeds)
        for tokens in self._tokens(params, frozen, prompt, max_new_tokens, knobs, seeds):
            going = [on and token not in stop for on, token in zip(going, tokens, strict=True)]
            if not any(going):
                break
            for text, on, token in zip(texts, going, tokens, strict=True):
                text += [token] * on
        return texts

    def _check(
        self, prompt: Sequence[int], max_new_tokens: int, temperature: float, top_p: float
    ) -> None:
        check_sampling(temperature, top_p)
        if not prompt:
            raise InputError(
                "the prompt is empty and the tokenizer has no BOS token; give a prompt"
            )
        context = self._arch.max_position_embeddings
        if len(prompt) >= context:
            raise InputError(
                f"a prompt of {len(prompt)} tokens leaves no room for new ones in the model's "
                f"context of {context}; shorten it"
            )
        if len(prompt) + max_new_tokens > context:
            raise InputError(
                f"a prompt of {len(prompt)} tokens and {max_new_tokens} new ones are more than the "
                f"model's context of {context}; lower --max_new_tokens"
            )

    def _tokens(self, params, frozen, prompt, max_new_tokens, knobs, seeds) -> Iterator[list[int]]:
        """The next token of each text, step by step."""
        length = len(prompt) + max_new_tokens
        seeds_B = np.array([seed % 2**32 for seed in seeds], np.uint32)
        tokens_BS = np.tile(np.asarray(prompt, np.int32), (len(seeds), 1))
        for i in range(max_new_tokens):
            at = np.uint32(i)
            if i == 0:
                new_B, cache = self._first(
                    params, frozen, tokens_BS, seeds_B, at, knobs, length=length
                )
            else:
                new_B, cache = self._next(params, frozen, cache, tokens_BS, seeds_B, at, knobs)
            tokens_BS = np.asarray(new_B)[:, None]
            yield tokens_BS[:, 0].tolist()


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
