"""Runs a step that must know the whole corpus as a cleaning does, on texts in memory."""

import pickle
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from maxlite.corpus.step import Corpuswide, Result


def run(
    step: Corpuswide, texts: Sequence[str], shards: int = 1, parts: int = 0, batch: int = 1000
) -> list[Result]:
    """What becomes of texts, divided into so many shards, matched in so many parts (0: its own)."""
    step.check()
    step = pickle.loads(pickle.dumps(step))
    cuts = [len(texts) * i // shards for i in range(shards + 1)]
    corpus = [texts[a:b] for a, b in pairwise(cuts)]
    signed = [
        np.concatenate([step.sign(shard[i : i + batch]) for i in range(0, len(shard) or 1, batch)])
        for shard in corpus
    ]
    parts = parts or step.match_parts(sum(map(len, signed)))
    matches = [step.match(part, parts, signed) for part in range(parts)]
    verdicts = step.resolve(signed, matches)
    assert len(verdicts) == shards
    return [
        result
        for shard, verdict in zip(corpus, verdicts, strict=True)
        for i in range(0, len(shard), batch)
        for result in step.judge(shard[i : i + batch], verdict, i)
    ]


def dropped(*args, **kwargs) -> list[int]:
    """The numbers of the texts that `run` drops."""
    return [i for i, (_, reason) in enumerate(run(*args, **kwargs)) if reason]
