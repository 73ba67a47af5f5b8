"""What new pieces may be parts of: words, or runs of one script within them, and their counts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import regex
import tokenizers
from tokenizers.decoders import ByteLevel

from maxlite.tokenizer.batching import batches
from maxlite.tokenizer.definition import JSON, Definition
from maxlite.tokenizer.pieces import SPACE

Keep = Callable[[str], bool]  # whether new pieces may hold a character

_BATCH = 1 << 22  # characters of text whose words are counted at a time
_WORD = r" ?(?:[\p{L}\p{M}]+|\p{N}%s|[^\s\p{L}\p{M}\p{N}]+)"


def count_runs(base: Definition, texts: Iterable[str], keep: Keep | None = None) -> Counter[str]:
    """Counts the runs of text that pieces can be learnt from.

    Args:
      base: says what a word is: by its own pipeline if it is byte-level; otherwise letters, digits
        (each by itself if no piece has several) and signs are kept apart.
      texts: documents; memory grows with the number of distinct runs.
      keep: cuts words into runs of characters that fit; words are whole if it is None.

    Returns:
      Counts by text. A space comes first where the run begins a word that has one before it.
    """
    split = _byte_level_words(base) if base.form == "byte_level" else _words(base)
    decode = ByteLevel().decode
    runs: Counter[str] = Counter()
    for batch in batches(texts, _BATCH):
        for word, count in Counter(word for text in batch for word in split(text)).items():
            word = decode([word]) if base.form == "byte_level" else word
            for run in _kept(word, keep):
                runs[run] += count
    return runs


def _words(base: Definition) -> Callable[[str], list[str]]:
    """Words as SentencePiece's trainer would have them."""
    texts = [piece.text.strip(SPACE) for piece in base.pieces if piece.kind == "normal"]
    numbers = any(len(text) > 1 and text.isdecimal() for text in texts)
    pattern = regex.compile(_WORD % ("+" if numbers else ""))
    tokenizer = base.tokenizer()
    alone, inside = tokenizer.encode_one("a"), tokenizer.encode_inside([b" a"])[0]
    start = " " if alone.tolist() == inside.tolist() else ""
    return lambda text: pattern.findall(start + text.replace(SPACE, " "))


def _byte_level_words(base: Definition) -> Callable[[str], list[str]]:
    """Words as the base's own pipeline cuts them, in the characters that stand for bytes."""
    tokenizer = tokenizers.Tokenizer.from_buffer(base.read(JSON))
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer

    def words(text: str) -> list[str]:
        text = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in splitter.pre_tokenize_str(text)]

    return words


def _kept(word: str, keep: Keep | None) -> Iterator[str]:
    if keep is None:
        if not word.isspace():
            yield word
        return
    before = " " if word[0] == " " else ""
    for fits, run in groupby(word[len(before) :], keep):
        text = "".join(run)
        if fits and not text.isspace():
            yield before + text
        before = ""
