"""Documents chosen for the new tokens in them, as EEVE biases its corpus (arXiv 2402.14714).

They publish the step but, as far as we know, no formula; this one is ours. With n_d tokens in
document d, of which c_dt are the new token t, and c_t of that token in the whole corpus,

    s_d = sum over new t of (c_dt / n_d) * (1 + ln(c_max / c_t))

so a document scores by the share of its tokens that are new, and a token that is e times as rare as
the most frequent one counts twice. Documents are drawn one after another without putting back, each
with a chance proportional to s_d^(1/T). That is the order of ln(s_d) / T plus Gumbel noise, largest
first (Gumbel-top-k, arXiv 1903.06059 section 2.3), with no sum and nothing that could overflow. A
document's noise is a hash of the seed and its text, so its luck depends neither on its place nor on
how the corpus is divided; the same text twice has the same luck.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from maxlite.corpus.candidates import Candidates, Chunk
from maxlite.errors import InputError

_CHUNK = 1 << 22  # tokens at a time: some hundred megabytes of work
_QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Selection:
    """The documents chosen, and what that does to the new tokens.

    Attributes:
      documents: of each source the numbers of those chosen, int64, ascending.
      counts: documents and tokens of all candidates, and of those chosen.
      before, after: how often each new token occurs in all candidates, and in those chosen; int64
        [new tokens].
      min_count: what was asked for.
    """

    documents: list[np.ndarray] = field(repr=False)
    counts: dict[str, dict[str, int]]
    before: np.ndarray = field(repr=False)
    after: np.ndarray = field(repr=False)
    min_count: int

    def figures(self) -> dict[str, Any]:
        """For JSON: amounts, and how many new tokens come as often as was asked for.

        Under "target", "reached" counts new tokens that come `min_count` times, "all_there_is"
        those that come less often but as often as in the candidates, "short" the rest, for which
        the share was too small; "absent" are those that no candidate has.
        """
        told: dict[str, Any] = {}
        for name, counts in (("before", self.before), ("after", self.after)):
            size, new = self.counts[name], int(counts.sum())
            low = np.quantile(counts, _QUANTILES, method="lower") if len(counts) else []
            told[name] = size | {"new_tokens": new, "new_share": new / max(1, size["tokens"])}
            told[name]["occurrences"] = {
                f"{share:.0%}": int(count) for share, count in zip(_QUANTILES, low, strict=False)
            }
        reached = self.after >= self.min_count
        whole = ~reached & (self.after == self.before)
        told["target"] = {
            "min_count": self.min_count,
            "new": len(self.before),
            "reached": int(reached.sum()),
            "all_there_is": int(whole.sum()),
            "short": int((~reached & ~whole).sum()),
            "absent": int((self.before == 0).sum()),
        }
        return told


def select(
    sources: Sequence[Candidates],
    base_rows: int,
    rows: int,
    *,
    share: float = 0.5,
    by: str = "tokens",
    temperature: float = 1.0,
    min_count: int = 0,
    seed: int = 0,
    chunk: int = _CHUNK,
    progress: bool = True,
) -> Selection:
    """Chooses documents by the module's formula; several sources are one corpus.

    Documents without a new token come after all others, by chance alone. With `min_count`, a
    document that has a new token of which those before it have fewer comes before all that have
    none; among each of the two the order stays. Memory grows with the number of documents (about
    100 bytes each) and with `min_count` times the number of new tokens, not with the text.

    Args:
      sources: the candidates.
      base_rows: ids from here on are new.
      rows: 1 + the largest id.
      share: of the candidates that may be chosen, above 0 and at most 1: they are taken as long as
        the next one fits.
      by: what the share is of: "tokens" or "documents".
      temperature: T; 1 draws in proportion to the scores, 0 takes the best, infinity draws evenly
        among documents with a new token.
      min_count: how often each new token should occur in the selection, or as often as in the
        corpus if that is less.
      seed: of the noise.
      chunk: tokens read at a time; the result does not depend on it.
      progress: show a bar on stderr where it takes longer than two seconds.

    Raises:
      InputError: a setting out of its range, an id that the tokenizer does not have, no new token
        anywhere, or no document that fits.
    """
    check(
        base_rows, rows, share=share, by=by, temperature=temperature, min_count=min_count, seed=seed
    )
    lengths = np.concatenate([source.lengths for source in sources])
    hashes = np.concatenate([source.hashes[source.documents] for source in sources])
    with tqdm(
        total=int(lengths.sum()) * (4 if min_count else 3), desc="selecting", unit=" tokens",
        unit_scale=True, delay=2, disable=not progress, leave=False,
    ) as bar:  # fmt: skip

        def chunks() -> Iterator[Chunk]:
            first = 0
            for source in sources:
                for part in source.chunks(base_rows, chunk):
                    yield part._replace(first=first + part.first, stop=first + part.stop)
                    bar.update(part.size)
                first += len(source.documents)

        before = _counted(chunks(), rows - base_rows)
        if not before.any():
            raise InputError(
                f"no document has a token with an id of {base_rows} or above, so none is better "
                "than another; name a source in the new language, or the right base_rows"
            )
        scores = _scored(chunks(), before, lengths)
        ranked = drawn(scores, hashes, temperature, seed)
        if min_count:
            first = _needed(chunks(), ranked, len(before), min_count)
            ranked = np.concatenate([ranked[first], ranked[~first]])
        sizes = lengths if by == "tokens" else np.ones_like(lengths)
        fit = int(np.searchsorted(np.cumsum(sizes[ranked]), share * sizes.sum(), "right"))
        if not fit:
            raise InputError(f"share={share:g} of {sizes.sum()} {by} is not one document; raise it")
        chosen = np.zeros(len(lengths), bool)
        chosen[ranked[:fit]] = True
        after = _counted(chunks(), len(before), chosen)
    counts = {
        "before": {"documents": len(lengths), "tokens": int(lengths.sum())},
        "after": {"documents": fit, "tokens": int(lengths[chosen].sum())},
    }
    borders = np.cumsum([len(source.documents) for source in sources])[:-1]
    documents = [
        source.documents[mine]
        for source, mine in zip(sources, np.split(chosen, borders), strict=True)
    ]
    return Selection(documents, counts, before, after, min_count)


def check(
    base_rows: int,
    rows: int,
    *,
    share: float = 0.5,
    by: str = "tokens",
    temperature: float = 1.0,
    min_count: int = 0,
    seed: int = 0,
) -> None:
    """Refuses settings of `select` that are out of their range.

    Raises:
      InputError: with the setting's name in it.
    """
    if not 0 <= base_rows < rows:
        raise InputError(
            f"base_rows={base_rows} leaves no new token: the tokenizer's ids end at {rows - 1}"
        )
    if not 0 < share <= 1:
        raise InputError(f"share={share:g} must be above 0 and at most 1")
    if by not in ("tokens", "documents"):
        raise InputError(f"by={by!r} must be 'tokens' or 'documents'")
    if not temperature >= 0:
        raise InputError(f"temperature={temperature:g} must be at least 0")
    if min_count < 0:
        raise InputError(f"min_count={min_count} must be at least 0")


def drawn(scores: np.ndarray, hashes: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """The order in which documents are drawn.

    Args:
      scores: of each, at least 0; float64 [N].
      hashes: of each; uint64 [N].
      temperature: 0 to infinity.
      seed: of the noise.

    Returns:
      Numbers of documents, int64 [N]; those with a score of 0 last.
    """
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).digest()
    uniform = (_mixed(hashes ^ np.frombuffer(key, "<u8")) >> np.uint64(12)) + 0.5
    noise = -np.log(-np.log(uniform * 2.0**-52))  # 52 bits and a half: neither 0 nor 1
    some = scores > 0
    logs = np.log(scores, where=some, out=np.zeros(len(scores)))
    # Divided or multiplied, whichever keeps both terms finite; the order is the same.
    lot = logs + temperature * noise if temperature <= 1 else logs / temperature + noise
    lot = np.where(some, lot, noise)
    return np.lexsort((hashes, -noise, -lot, ~some))


def _mixed(x: np.ndarray) -> np.ndarray:
    """Spreads each bit over all of a uint64: the end of SplitMix64 (its products wrap)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _counted(chunks: Iterator[Chunk], new: int, chosen: np.ndarray | None = None) -> np.ndarray:
    """How often each new token occurs, in all documents or in those chosen."""
    counts = np.zeros(new, np.int64)
    for chunk in chunks:
        tokens = chunk.tokens
        if chosen is not None:
            tokens = tokens[chosen[chunk.first + chunk.documents]]
        if (most := int(tokens.max(initial=-1))) >= new:
            raise InputError(
                f"a token is {most - new + 1} above the largest id of the tokenizer; the tokens "
                "were made with another one"
            )
        counts += np.bincount(tokens, minlength=new)
    return counts


def _scored(chunks: Iterator[Chunk], counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    weights = 1 + np.log(counts.max() / np.maximum(counts, 1))
    scores = np.zeros(len(lengths))
    for chunk in chunks:
        here = scores[chunk.first : chunk.stop]
        here += np.bincount(chunk.documents, weights[chunk.tokens], len(here))
    return scores / np.maximum(lengths, 1)


def _needed(chunks: Iterator[Chunk], ranked: np.ndarray, new: int, min_count: int) -> np.ndarray:
    """Which ranks hold one of the first `min_count` occurrences of some new token; bool [N].

    Going through the documents in their order and taking each that has a token which is still short
    gives the same ones: while a token is short, every document with it is taken. Stated like this
    it needs no going through, only each token's lowest ranks, which can be kept while chunks pass.
    """
    total = len(ranked)
    rank = np.empty(total, np.int64)
    rank[ranked] = np.arange(total)
    pairs, times = np.zeros(0, np.int64), np.zeros(0, np.int64)  # token * total + rank, ascending
    limit = np.full(new, total)  # from this rank on a token is had often enough
    for chunk in chunks:
        at = rank[chunk.first + chunk.documents]
        useful = at < limit[chunk.tokens]
        found, often = np.unique(chunk.tokens[useful] * total + at[useful], return_counts=True)
        pairs, times = np.concatenate([pairs, found]), np.concatenate([times, often])
        order = np.argsort(pairs, kind="stable")
        pairs, times = pairs[order], times[order]
        token, sums = pairs // total, np.cumsum(times)
        starts = np.searchsorted(token, token)  # where each pair's token begins
        until = sums - (sums - times)[starts]
        kept = until - times < min_count
        full = kept & (until >= min_count)
        limit[token[full]] = pairs[full] % total
        pairs, times = pairs[kept], times[kept]
    needed = np.zeros(total, bool)
    needed[pairs % total] = True
    return needed
