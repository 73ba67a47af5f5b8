"""Continued BPE: merges learnt on top of those that a tokenizer has already (arXiv 2512.03989).

Pieces that another tokenizer found in text are often out of reach of the merges that lead there.
Here the text is first encoded with the base, and byte-pair training goes on with its tokens, so
every new piece is one that the extended tokenizer makes. Other than in the paper, training never
joins parts of different characters: a character that the base writes in several tokens becomes a
piece first (SentencePiece can't merge bytes, and broken pieces would be met in other scripts).

The library trains: each token of the base is written as one character of its own, words of these
characters are given to the trainer of `tokenizers`, and the merges it finds are read back.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, groupby, repeat

import numpy as np
import tokenizers
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from maxlite.errors import InputError
from maxlite.tokenizer.batching import batched
from maxlite.tokenizer.characters import open_end
from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.runs import Keep, count_runs
from maxlite.tokenizer.stock import Group, Stock
from maxlite.tokenizer.tokenizer import Tokenizer

MIN_COUNT = 10
MAX_LENGTH = 16  # SentencePiece's own default, and LLaMA's
_FIRST = 0x10000  # symbols of the trainer begin here: no surrogates, no white space
_SPARE = 64  # merges learnt beyond those asked for, in case that some can't be used
_TOGETHER = 1000  # words that the trainer gets as one text
_ENCODED = 50_000  # words that are encoded at a time


@dataclass(frozen=True)
class Learned:
    """What `Definition.extended` needs.

    Attributes:
      pieces: new ones in the order of their ranks, single characters first; as the base writes.
      merges: pairs in the order of their ranks, those that lead to one piece in several ways
        included. None where a merge is any way to split a piece in two, as SentencePiece has it.
      characters: how many of the pieces are single characters, or parts of them, that the base
        writes in several tokens.
      dropped: pieces that were learnt but would never be made, replaced by the next ones.
      words: number of distinct words that were learnt from.
    """

    pieces: list[str]
    merges: list[tuple[str, str]] | None
    characters: int = 0
    dropped: list[str] = field(default_factory=list)
    words: int = 0


def learn(
    base: Definition,
    texts: Iterable[str],
    size: int,
    keep: Keep | None = None,
    min_count: int = MIN_COUNT,
    max_length: int = MAX_LENGTH,
    progress: Callable[[str], None] | None = None,
) -> Learned:
    """Learns new pieces for a BPE tokenizer from text.

    Text without characters to keep is encoded as before, whatever is learnt. (For byte-level bases,
    characters that Unicode has not assigned are left out of this promise.)

    Args:
      base: a SentencePiece BPE model or its tokenizer.json, with byte fallback; or byte-level BPE.
      texts: documents; memory grows with the number of their distinct words only.
      size: how many pieces to learn; fewer are found where the text has no more.
      keep: whether new pieces may hold a character; everything if None. A space before a word needs
        no permission.
      min_count: how often a character, or a pair, must be seen to become a piece.
      max_length: of a piece, in tokens of the base or characters, whichever are fewer.
      progress: told what is going on, in a few words.

    Raises:
      InputError: a base of another kind, or nothing to learn from.
    """
    _check(base, size)
    tell = progress or (lambda told: None)
    tell("counting words")
    runs = count_runs(base, texts, cache(keep) if keep else None)
    if not runs:
        raise InputError(
            f"there is nothing to learn for {base.where}: the text has no word of the characters "
            "to keep"
        )
    tell(f"encoding {len(runs):,} distinct words with the base")
    words = _grouped(base.tokenizer(), runs)
    stock = Stock(base, keep)
    counts: Counter[Group] = Counter()
    for groups, count in words:
        for group in groups:
            counts[group] += count
    for group, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if count >= min_count:
            stock.add_character(group, size)
    start, characters = stock.copy(), len(stock.pieces)
    symbols = {group: chr(_FIRST + i) for i, group in enumerate(sorted(stock.texts))}
    sequences = _sequences(words, symbols)
    meaning = {symbol: stock.texts[group] for group, symbol in symbols.items()}
    asked = size - characters + _SPARE
    while True:
        tell(f"learning up to {asked:,} merges")
        pairs, exhausted = _train(sequences, asked, min_count, max_length)
        stock = start.copy()
        for pair in pairs:
            left, right = ("".join(meaning[symbol] for symbol in part) for part in pair)
            stock.add_merge(left, right)
        tell("encoding each new piece")
        dropped = _unreachable(base, stock)
        stock.remove(dropped)
        if len(stock.pieces) >= size or exhausted:
            break
        asked *= 2
    stock.remove(list(stock.pieces)[size:])
    merges = list(stock.merges) if stock.explicit else None
    return Learned(list(stock.pieces), merges, characters, dropped, len(runs))


def _check(base: Definition, size: int) -> None:
    if base.model != "bpe":
        raise InputError(
            f"{base.where} is a Unigram model, which has no merges to continue; take a BPE "
            "tokenizer as the base"
        )
    if size < 1:
        raise InputError(f"the number of pieces to learn is {size}; it must be positive")
    bytes_known = sum(piece.kind == "byte" for piece in base.pieces)
    if base.form != "byte_level" and bytes_known < 256:
        raise InputError(
            f"{base.where} has pieces for {bytes_known} of the 256 bytes, so it cannot write every "
            "text; continue a base with byte fallback, or a byte-level one"
        )
    base.extended([])  # refuses at once what it would refuse in the end


def _grouped(tokenizer: Tokenizer, runs: Counter[str]) -> list[tuple[list[Group], int]]:
    """Each run as tokens of the base, grouped so that no group ends inside a character."""
    raw = [tokenizer.raw(index) or b"" for index in range(tokenizer.rows)]
    alone: list[Group | None] = [(i,) if _is_text(data) else None for i, data in enumerate(raw)]
    several: dict[Group, Group] = {}  # each but once in memory
    words = []
    for batch in batched(runs.items(), _ENCODED):
        encoded = tokenizer.encode_inside([run.encode() for run, _ in batch])
        for ids, (_, count) in zip(encoded, batch, strict=True):
            groups: list[Group] = []
            group: Group = ()
            written = b""
            for index in ids.tolist():
                single = alone[index]
                if single:  # never inside a character
                    groups.append(single)
                    continue
                group += (index,)
                written += raw[index]
                if not open_end(written):
                    groups.append(several.setdefault(group, group))
                    group, written = (), b""
            words.append((groups, count))
    return words


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def _sequences(words: list[tuple[list[Group], int]], symbols: dict[Group, str]) -> Counter[str]:
    """Words of symbols and their counts, cut where a token is that can't be part of a merge."""
    sequences: Counter[str] = Counter()
    for groups, count in words:
        for known, run in groupby(groups, symbols.__contains__):
            sequence = "".join(symbols[group] for group in run) if known else ""
            if len(sequence) > 1:
                sequences[sequence] += count
    return sequences


def _train(
    sequences: Counter[str], asked: int, min_count: int, max_length: int
) -> tuple[list[tuple[str, str]], bool]:
    """Pairs of strings of symbols in the order of their merges, and whether there are no more."""
    alphabet = {symbol for sequence in sequences for symbol in sequence}
    tokenizer = tokenizers.Tokenizer(BPE())
    tokenizer.pre_tokenizer = WhitespaceSplit()
    trainer = BpeTrainer(
        vocab_size=len(alphabet) + asked,
        min_frequency=min_count,
        max_token_length=max_length + 1,  # which is already too long
        show_progress=False,
    )
    tokenizer.train_from_iterator(_repeated(sequences), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return [(left, right) for left, right in model["merges"]], (
        len(model["vocab"]) < len(alphabet) + asked
    )


def _repeated(sequences: Counter[str]) -> Iterator[str]:
    """Texts in which each word stands as often as it was counted: the trainer takes no counts."""
    words = chain.from_iterable(repeat(word, count) for word, count in sequences.items())
    for batch in batched(words, _TOGETHER):
        yield " ".join(batch)


def _unreachable(base: Definition, stock: Stock) -> list[str]:
    """New pieces whose own text becomes something else."""
    pieces = list(stock.pieces)
    merges = list(stock.merges) if stock.explicit else None
    first = len(base.pieces)
    ids = np.arange(first, first + len(pieces))
    lost = unreachable(base.extended(pieces, merges=merges), ids) if pieces else ids
    return [pieces[index - first] for index in lost.tolist()]
