"""A model judged: bits per byte by set, what its tokens are worth, and texts that it goes on with.

The figures of two models on the same sets are set side by side by `maxlite.report.evaluated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from maxlite.data import sets
from maxlite.data.view import View
from maxlite.errors import InputError
from maxlite.generate import Generator, prompt_ids, stop_ids
from maxlite.score import Score, Scorer
from maxlite.state.ready import Ready
from maxlite.state.source import open_model

Figures = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """How models are judged.

    Attributes:
      window: tokens a row, at most a model's context.
      stride: how far windows advance; 0 is half a window.
      documents: at most so many of each file; 0 for all.
      rows: windows at a time, for each device.
      new_tokens: at most so many after each prompt.
    """

    window: int
    stride: int = 0
    documents: int = 0
    rows: int = 8
    new_tokens: int = 64


def fitting(models: Sequence[str], seq_len: int, stride: int) -> int:
    """The window for models that are compared: `seq_len`, or what all have, at most 2048.

    Raises:
      InputError: `seq_len` is more than the context of one, or `stride` more than the window.
    """
    contexts = {name: open_model(name).architecture.max_position_embeddings for name in models}
    model, context = min(contexts.items(), key=lambda item: item[1])
    window = seq_len or min(context, 2048)
    if window > context or stride > window:
        raise InputError(
            f"--seq_len={window} and --stride={stride} do not fit: seq_len is at most the context "
            f"of {context} that {model} has, stride at most seq_len"
        )
    return window


def views(ready: Ready, parts: Sequence[sets.Part]) -> list[View]:
    """The documents of each part as a model's tokenizer writes them.

    Raises:
      InputError: the model has no tokenizer, text cannot be read, or no document is held out.
    """
    try:
        tokenizer = ready.tokenizer
    except InputError as e:
        raise InputError(f"{ready.where} cannot be judged on text: {e}") from None
    found = [part.view(tokenizer) for part in parts]
    if not any(map(len, found)):
        raise InputError(
            f"none of the {sum(len(view.cache) for view in found)} documents is held out at "
            f"{parts[0].held_out:g}, so there is nothing to judge on; name more text, or hold out "
            "a larger share"
        )
    return found


def evaluated(
    ready: Ready, parts: Sequence[sets.Part], prompts: Sequence[str], settings: Settings
) -> Figures:
    """Judges a model, with progress bars on what takes longer than two seconds.

    Args:
      ready: the model.
      parts: what it is judged on.
      prompts: what it goes on with, greedily.
      settings: how.

    Returns:
      model     where it is
      seq_len   the window
      files     name, set and the figures of each part
      groups    name and the figures of each row of `sets.rows`
      total     of all
      samples   prompt, text (what follows it) and new_tokens of each prompt

      The figures are those of `Score.figures`, and `context_chars`: characters that a window has
      room for, as a mean over the text.

    Raises:
      InputError: as `views`, or a prompt is too long.
    """
    documents = views(ready, parts)
    asked = [prompt_ids(ready.tokenizer, prompt) for prompt in prompts]  # or refused, before work
    found: list[Score] = []
    with ready.on_mesh():
        several = settings.rows * ready.mesh.size
        scorer = Scorer(ready.bind, ready.mesh, several, settings.window, settings.stride)
        for part, view in zip(parts, documents, strict=True):
            name = part.source.name.rsplit("/", 1)[-1]
            found.append(scorer(ready.params, {}, view, name, settings.documents))
        samples = _samples(ready, prompts, asked, settings)
    by_set: dict[str, Score] = {}
    for part, score in zip(parts, found, strict=True):
        by_set[part.set] = by_set[part.set] + score if part.set in by_set else score
    return {
        "model": ready.where,
        "seq_len": settings.window,
        "files": [
            {"name": part.source.name, "set": part.set, **_figures(score, settings.window)}
            for part, score in zip(parts, found, strict=True)
        ],
        "groups": [
            {"name": name, **_figures(_sum([by_set[one] for one in names]), settings.window)}
            for name, names in sets.rows(parts).items()
        ],
        "total": _figures(_sum(found), settings.window),
        "samples": samples,
    }


def _sum(scores: Sequence[Score]) -> Score:
    total = scores[0]
    for score in scores[1:]:
        total = total + score
    return total


def _figures(score: Score, window: int) -> Figures:
    per_char = score.tokens_per_char
    return score.figures() | {"context_chars": window / per_char if per_char else 0.0}


def _samples(
    ready: Ready, prompts: Sequence[str], asked: Sequence[list[int]], settings: Settings
) -> list[Figures]:
    if not prompts:
        return []
    tokenizer = ready.tokenizer
    generator = Generator(ready.bind, ready.architecture, tokenizer.rows, ready.dtype)
    room = ready.architecture.max_position_embeddings - max(map(len, asked))
    count, stop = max(1, min(settings.new_tokens, room)), stop_ids(tokenizer, ready.source)
    size, found = min(settings.rows * ready.mesh.size, len(asked)), []
    for start in tqdm(range(0, len(asked), size), desc="samples", delay=2, leave=False):
        # the last batch is filled up, or another size would be compiled for it
        some = [asked[i % len(asked)] for i in range(start, start + size)]
        found += generator.several(ready.params, {}, some, count, stop=stop)
    return [
        {"prompt": prompt, "text": _after(ready, ids, new), "new_tokens": len(new)}
        for prompt, ids, new in zip(prompts, asked, found, strict=False)
    ]


def _after(ready: Ready, ids: list[int], new: list[int]) -> str:
    """What follows a prompt; not decoded by itself, which would drop a space at its start."""
    before = ready.tokenizer.decode(ids, skip_special=True)
    whole = ready.tokenizer.decode([*ids, *new], skip_special=True)
    return whole.removeprefix(before)
