"""A model as lm-evaluation-harness asks for one, so that its tasks run without an export.

Requests are turned into token ids as the harness's own backend for transformers does, wherever it
matters to a task's figures, so that both give the same. What it needs is the extra `eval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from maxlite.errors import InputError
from maxlite.generate import Generator, stop_ids
from maxlite.likelihood import Likelihoods
from maxlite.state.ready import Ready

_NEW_TOKENS = 256  # where a task does not say how many, as in the harness's other backends
_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_p"}
_SAMPLING = {"top_k", "min_p", "typical_p"}  # say nothing of greedy texts
_NEUTRAL = {"top_k": 0, "num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 1.0}


class Harnessed(TemplateLM):
    """A model for the harness.

    Args:
      ready: the model.
      rows: texts that are generated together, for each device.
      batch_tokens: tokens at a time for likelihoods; see `Likelihoods`.
      bos: put BOS before each text, if the tokenizer has one, as training did. The harness's own
        backend leaves that to the folder's tokenizer_config.json.

    Raises:
      InputError: the model has no tokenizer, or one without BOS and EOS.
    """

    def __init__(self, ready: Ready, rows: int = 8, batch_tokens: int = 0, bos: bool = True):
        super().__init__()
        self._ready, self._rows = ready, rows * ready.mesh.size
        self._bos: list[int] = []
        try:
            self._tokens = ready.tokenizer
        except InputError as e:
            raise InputError(f"{ready.where} cannot be asked anything: {e}") from None
        if self._tokens.bos is None and self._tokens.eos is None:
            raise InputError(
                f"{self._tokens.path} has neither BOS nor EOS, one of which must stand before a "
                "text without a context; name one in tokenizer_config.json"
            )
        if bos and self._tokens.bos is not None:
            self._bos = [self._tokens.bos]
        self._likelihoods = Likelihoods(ready, batch_tokens)
        self._generator = Generator(ready.bind, ready.architecture, self._tokens.rows, ready.dtype)

    @property
    def max_length(self) -> int:
        """Tokens that the model's context has room for."""
        return self._ready.architecture.max_position_embeddings

    @property
    def eot_token_id(self) -> int | None:
        """EOS, at which texts end; None where the tokenizer has none."""
        return self._tokens.eos

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text that has no context."""
        ends = (self._tokens.bos, self._tokens.eos)
        return next(end for end in ends if end is not None)

    @property
    def tokenizer_name(self) -> str:
        """By which the harness tells caches apart: the fingerprint, as many have one name."""
        return self._tokens.fingerprint

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """The token ids of a text, behind BOS unless `add_special_tokens` is False."""
        ids: list[int] = self._tokens.encode_one(string).tolist()
        return ids if add_special_tokens is False else self._bos + ids

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **more: Any
    ) -> list[tuple[float, bool]]:
        for asked, _, after in requests:
            if not after:
                raise InputError(
                    f"a task asks how likely {asked[1]!r} is after {asked[0][-40:]!r}, and "
                    f"{self._tokens.path} writes no token for it"
                )
        before = [self.prefix_token_id]
        found = self._likelihoods([(context or before, after) for _, context, after in requests])
        answers = [(one.nats, one.greedy) for one in found]
        for (asked, _, _), answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", asked, answer)
        return answers

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, in windows that do not overlap.

        As in the harness's own backend a text's BOS is scored after another BOS, so that published
        figures can be compared; `maxlite.score` has better windows.
        """
        pairs, owners = [], []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                self.tok_encode(*request.args), self.prefix_token_id, self.max_length, 1
            )
            for window in windows:
                pairs.append(make_disjoint_window(window))
                owners.append(number)
        totals = [0.0] * len(requests)
        for number, one in zip(owners, self._likelihoods(pairs), strict=True):
            totals[number] += one.nats
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What follows each context, up to the first of the texts that end it.

        Raises:
          InputError: a task asks for more new tokens than the context has, or for a way of
            generating that is not there.
        """
        by_settings: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            by_settings.setdefault(repr(sorted(request.args[1].items())), []).append(number)
        texts = [""] * len(requests)
        with tqdm(total=len(requests), desc="generating", unit=" texts", delay=2) as bar:
            for numbers in by_settings.values():
                settings = self._settings(requests[numbers[0]].args[1])
                asked = {n: self._prompt(requests[n].args[0], settings) for n in numbers}
                # Prompts of like lengths go together: each batch is filled up to its longest.
                numbers.sort(key=lambda n: -len(asked[n]))
                for start in range(0, len(numbers), self._rows):
                    some = numbers[start : start + self._rows]
                    for n, text in zip(some, self._texts(some, asked, settings), strict=True):
                        texts[n] = text
                        self.cache_hook.add_partial("generate_until", requests[n].args, text)
                    bar.update(len(some))
        return texts

    def _settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        settings = dict(normalize_gen_kwargs(dict(given), _NEW_TOKENS))
        if not settings["do_sample"]:
            settings = {key: v for key, v in settings.items() if key not in _SAMPLING}
            settings |= {"temperature": 0.0, "top_p": 1.0}
        for key, value in settings.items():
            if key not in _KNOWN and value not in (None, False, _NEUTRAL.get(key)):
                raise InputError(
                    f"a task generates with {key}={value!r}, which maxlite cannot do; it knows "
                    f"{', '.join(sorted(_KNOWN))}"
                )
        if settings["max_gen_toks"] >= self.max_length:
            raise InputError(
                f"a task asks for {settings['max_gen_toks']} new tokens, which the context of "
                f"{self.max_length} that {self._ready.where} has leaves no room for beside a "
                "question; give --max_new_tokens"
            )
        return settings

    def _prompt(self, text: str, settings: Mapping[str, Any]) -> list[int]:
        """The tokens of a context; the last ones, where there is no room for all."""
        ids = self.tok_encode(text) or [self.prefix_token_id]
        return ids[-(self.max_length - settings["max_gen_toks"]) :]

    def _texts(
        self, some: Sequence[int], asked: Mapping[int, list[int]], settings: Mapping[str, Any]
    ) -> list[str]:
        # The last batch is filled up, or another size would be compiled for it.
        filled = [some[i % len(some)] for i in range(self._rows)]
        until = settings["until"]

        def enough(several: list[list[int]]) -> bool:
            said = map(self._text, several[: len(some)])
            return all(any(end and end in text for end in until) for text in said)

        with self._ready.on_mesh():
            new = self._generator.several(
                self._ready.params,
                {},
                [asked[n] for n in filled],
                settings["max_gen_toks"],
                temperature=settings.get("temperature") or float(settings["do_sample"]),
                top_p=settings.get("top_p", 1.0),
                seeds=filled,
                stop=stop_ids(self._tokens, self._ready.source),
                enough=enough if until else None,
            )
        return [
            postprocess_generated_text(self._text(ids), until, None) for ids in new[: len(some)]
        ]

    def _text(self, new: list[int]) -> str:
        """New tokens as text, without those that no text gives, as the harness's backend has it."""
        return self._tokens.decode([i for i in new if self._tokens.raw(i) is not None])
