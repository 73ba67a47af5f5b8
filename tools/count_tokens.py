"""Counts how often each token of a tokenizer occurs in a corpus of any size.

Example: python -m tools.count_tokens --tokenizer=FOLDER --text='ko/*.txt' --out=counts.json

Counts add up: --add takes files that this tool wrote, from parts of the corpus or other machines,
and adds them to what it counts, or to one another if there is nothing to count. A tokenizer.model
is faster than the tokenizer.json that belongs to it, but the two are different tokenizers here.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from maxlite.config import Source
from maxlite.console import bytes_bar, human, say
from maxlite.data.parts import id_parts, text_parts
from maxlite.data.sources import expand
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer, load_tokenizer
from maxlite.tokenizer.counting import Part, count
from maxlite.tokenizer.counts import Counts, FileCounts, fallback_ids, read_counts
from tools import cli

FLAGS = flags.FLAGS
SHARES = (0.9, 0.95, 0.99, 0.999)

flags.DEFINE_string("tokenizer", "", "A folder, or a .model or .json file; not needed to add.")
flags.DEFINE_string(
    "text", "", "Files of text (.txt, .jsonl, both also .gz or .zst, .parquet): globs, with commas."
)
flags.DEFINE_string(
    "tokens",
    "",
    "What is tokenised already, as globs with commas: folders that tokenize_corpus made, or their "
    'addresses, and .jsonl or .bin files with {"tokens": [ids]} on each line.',
)
flags.DEFINE_string("add", "", "Files of counts to add, with commas between them.")
flags.DEFINE_string("out", "", "The file of counts to write; empty: only print.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_bool("skip_invalid", False, "Leave out documents that are not UTF-8; count them.")
flags.DEFINE_integer("workers", 0, "Processes that count; 0: as many as there are cores.", 0)
flags.DEFINE_integer("top", 10, "Print so many of the most frequent tokens.", 0)


def main() -> dict[str, Any] | None:
    out = cli.file_of("out")
    tokenizer = load_tokenizer(FLAGS.tokenizer) if FLAGS.tokenizer else None
    added = _added(tokenizer)
    parts = _parts(tokenizer)
    if FLAGS.dry_run:
        files = len({part.name for part in parts})
        size = human(sum(part.size for part in parts), "B")
        say(f"would count {size} in {files} files, and add {len(added)} files of counts")
        return None
    if tokenizer and parts:
        with bytes_bar("counting") as progress:
            added.append(count(tokenizer, parts, FLAGS.workers, progress))
        names = [name for name in FLAGS.add.split(",") if name]
        _refuse_twice(added, [*names, "what was counted now"])
    counts = added[0]
    for more in added[1:]:
        counts += more
    if not counts.counts.any():
        raise InputError("there is no token to count: the text is empty, or white space alone")
    if out:  # before anything is printed: who reads stdout may go away
        counts.write(out)
        say(f"wrote {out}")
    figures = _figures(counts, tokenizer)
    _print(counts, figures)
    return figures


def _added(tokenizer: Tokenizer | None) -> list[Counts]:
    """What --add names, after what can be refused about it."""
    added: list[Counts] = []
    names = [name for name in FLAGS.add.split(",") if name]
    for name in names:
        counts = read_counts(Path(name).expanduser())
        if tokenizer:
            counts.check(tokenizer, where=f"the counts in {name}")
        elif added and counts.fingerprint != added[0].fingerprint:
            raise InputError(
                f"{name} and {names[0]} hold counts of two tokenizers: add those of one"
            )
        added.append(counts)
    _refuse_twice(added, names)
    return added


def _refuse_twice(added: list[Counts], names: list[str]) -> None:
    """Refuses the same file counted twice, which parts of one corpus never have."""
    seen: dict[FileCounts, str] = {}
    for counts, name in zip(added, names, strict=True):
        for file in counts.files:
            if file.tokens and file in seen:
                raise InputError(
                    f"{seen[file]} and {name} both hold the same {file.tokens} tokens of "
                    f"{file.name}, which would count twice: leave one of them out"
                )
        seen.update(dict.fromkeys(counts.files, name))


def _parts(tokenizer: Tokenizer | None) -> list[Part]:
    """What --text and --tokens name, in parts."""
    texts, tokens = ([g for g in given.split(",") if g] for given in (FLAGS.text, FLAGS.tokens))
    if not texts and not tokens:
        if not FLAGS.add:
            raise InputError("--text, --tokens or --add must be given; --help says what they mean")
        return []
    if tokenizer is None:
        raise InputError("--tokenizer must be given to count; --help says what it means")
    files = dict.fromkeys(path for g in texts for path in expand(Source(glob=g)))
    parts: list[Part] = [*text_parts(files, FLAGS.field, FLAGS.txt, FLAGS.skip_invalid)]
    for pattern in tokens:
        parts += id_parts(pattern, tokenizer)
    if len(set(parts)) < len(parts):
        raise InputError(f"--tokens={FLAGS.tokens} names something twice, which would count twice")
    return parts


def _figures(counts: Counts, tokenizer: Tokenizer | None) -> dict[str, Any]:
    total = counts.total
    tokens = total.tokens
    per = {"character": total.characters, "word": total.words, "byte": total.bytes}
    figures: dict[str, Any] = {
        "tokenizer": counts.fingerprint,
        "rows": counts.rows,
        "files": len(counts.files),
        "documents": total.documents,
        "tokens": tokens,
        "characters": total.characters,
        "words": total.words,
        "bytes": total.bytes,
        "skipped": total.skipped,
        **{f"tokens_per_{name}": tokens / size if size else None for name, size in per.items()},
        "never": int((counts.counts == 0).sum()),
        "coverage": dict(zip(map(str, SHARES), counts.coverage(SHARES), strict=True)),
    }
    if tokenizer:
        unknown = 0 if tokenizer.unk is None else int(counts.counts[tokenizer.unk])
        fallback = int(counts.counts[fallback_ids(tokenizer)].sum())
        figures |= {"unknown_share": unknown / tokens, "fallback_share": fallback / tokens}
    order = np.argsort(-counts.counts, kind="stable")[: FLAGS.top].tolist()
    figures["most_frequent"] = [
        {"id": i, "count": int(counts.counts[i])}
        | ({"piece": tokenizer.piece(i)} if tokenizer else {})
        for i in order
        if counts.counts[i]
    ]
    return figures


def _print(counts: Counts, figures: dict[str, Any]) -> None:
    tokens = figures["tokens"]
    print(f"{tokens:,} tokens, {figures['documents']:,} documents, {figures['files']:,} files")
    if figures["skipped"]:
        print(f"{figures['skipped']:,} documents left out, which are not valid UTF-8")
    for name in ("character", "word", "byte"):
        value = figures[f"tokens_per_{name}"]
        said = "not known: something was tokenised before" if value is None else f"{value:.4f}"
        print(f"tokens per {name:<10} {said}")
    for name in ("unknown", "fallback"):
        if f"{name}_share" in figures:
            what = {"unknown": "unknown", "fallback": "parts of characters (bytes)"}[name]
            print(f"{what}: {figures[f'{name}_share']:.4%} of tokens")
    for share, ids in figures["coverage"].items():
        print(f"{float(share):>6.1%} of tokens are {ids:,} ids ({ids / counts.rows:.1%} of all)")
    print(f"{figures['never']:,} of {counts.rows:,} ids never occur")
    for row in figures["most_frequent"]:
        piece = repr(row["piece"]) if "piece" in row else ""
        print(f"{row['id']:>8} {row['count']:>14,} {row['count'] / tokens:>8.3%} {piece}")


if __name__ == "__main__":
    cli.run(main)
