"""Keeps the pieces of a tokenizer that a corpus needs most; ids keep their order.

Example: python -m tools.compact_tokenizer --tokenizer=FOLDER --counts=FILE --size=16000 --out=NEW

The counts are those that count_tokens makes. Special tokens and bytes always stay. Of the others
those are kept that save the most tokens, and what BPE needs to make them: every kept piece can be
produced. --as_published takes the most frequent instead, as PanGu-pi Pro's code does, which leaves
pieces that are never produced. Both are computed and compared, on --text (which should not be what
was counted) or else on the counts. kept_ids.txt in the new folder is for compact_vocab.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags
from tqdm import tqdm

from maxlite.config import Source
from maxlite.console import bytes_bar, say
from maxlite.data.sources import documents, expand
from maxlite.tokenizer.compacting import (
    KEPT_IDS,
    Lengths,
    Outcome,
    check,
    closed_ids,
    compact,
    forms,
    measure,
    outcome,
    published_ids,
)
from maxlite.tokenizer.companions import check_folder
from maxlite.tokenizer.counts import read_counts
from maxlite.tokenizer.definition import Definition, open_definition, write_definition
from maxlite.tokenizer.pieces import listed
from tools import cli

FLAGS = flags.FLAGS
EXAMPLES = 20

flags.DEFINE_string("tokenizer", "", "Folder or file of the tokenizer to make smaller.")
flags.DEFINE_string("counts", "", "File of token counts, made with this tokenizer.")
flags.DEFINE_integer("size", 0, "Pieces to keep, special tokens and bytes among them.")
flags.DEFINE_bool("as_published", False, "Keep what the published code keeps: see above.")
flags.DEFINE_string("text", "", "Compare on these files, globs with commas between them.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_string("out", "", "The folder to make.")


def main():
    cli.require("tokenizer", "counts", "size", *([] if FLAGS.dry_run else ["out"]))
    if FLAGS.out:
        check_folder(Path(FLAGS.out).expanduser(), FLAGS.overwrite)
    globs = [g for g in FLAGS.text.split(",") if g]
    files = [*dict.fromkeys(path for g in globs for path in expand(Source(glob=g)))]
    base = open_definition(FLAGS.tokenizer)
    counts = read_counts(Path(FLAGS.counts).expanduser())
    check(base, counts, FLAGS.size)
    with _pieces_bar() as progress:
        chosen = {"closed": closed_ids(base, counts, FLAGS.size, progress)}
    chosen["published"] = published_ids(base, counts, FLAGS.size)
    made = {name: compact(base, ids) for name, ids in chosen.items()}
    found = {name: outcome(base, ids, made[name], counts) for name, ids in chosen.items()}
    held_out = _measured(base, made, files) if files else {}
    written = "published" if FLAGS.as_published else "closed"
    _print(base, found, held_out, written)
    figures = {
        "tokenizer": FLAGS.tokenizer,
        "rows_before": len(base.pieces),
        "rows": len(chosen[written]),
        "size": FLAGS.size,
        "as_published": FLAGS.as_published,
        "text": [str(file) for file in files],
        "ways": {name: _figures(base, each) for name, each in found.items()},
    }
    for form, lengths in held_out.items():
        figures["texts"] = lengths.texts
        figures.setdefault("tokens_before", {})[form] = lengths.tokens[0]
        for i, way in enumerate(figures["ways"].values(), 1):
            way["tokens"][form] = lengths.tokens[i]
            way["growth"][form] = lengths.tokens[i] / lengths.tokens[0] - 1
            way["inexact"][form] = lengths.broken[i]
    if FLAGS.dry_run:
        say(f"would write {', '.join(made[written].files)} to {FLAGS.out or 'a folder'}")
        return None
    write_definition(made[written], FLAGS.out, FLAGS.overwrite)
    print(f"Written to {FLAGS.out}: {', '.join(sorted(made[written].files))}")
    print(f"{KEPT_IDS} is what compact_vocab takes as --kept_ids, and {FLAGS.out} as --tokenizer")
    return {**figures, "out": FLAGS.out}


def _measured(
    base: Definition, made: dict[str, Definition], files: list[Path]
) -> dict[str, Lengths]:
    """The lengths of the texts in each form; of the whole tokenizer and the ways, in this order."""
    total, done = sum(file.stat().st_size for file in files), 0
    found = {}
    names = list(forms(made["closed"]))

    for name in names:
        with bytes_bar(f"measuring {name}") as progress:
            done = 0

            def advance(size: int, show: Callable[[int, int], None] = progress) -> None:
                nonlocal done
                done += size
                show(done, total)

            texts = (t for f in files for t in documents(f, FLAGS.field, advance=advance))
            found[name] = measure([forms(d)[name] for d in (base, *made.values())], texts)
    return found


def _figures(base: Definition, found: Outcome) -> dict:
    return {
        "rows": found.rows,
        "coverage": found.coverage,
        "dead": len(found.dead),
        "dead_share": found.stranded,
        "dead_examples": [base.pieces[i].text for i in found.dead[:EXAMPLES].tolist()],
        "growth_predicted": dict(found.growth),
        "growth": {},
        "tokens": {},
        "inexact": {},
        "inexact_pieces": len(found.broken),
        "unknown": len(found.unknown),
        "unknown_share": found.unknown_share,
        "unknown_examples": found.unknown[:EXAMPLES],
    }


def _print(
    base: Definition, found: dict[str, Outcome], held_out: dict[str, Lengths], written: str
) -> None:
    whole, ways = len(base.pieces), list(found.values())
    print(f"{whole:,} pieces; {FLAGS.size:,} were asked for, and {found[written].rows:,} are kept")
    heads = [("* " if name == written else "") + name for name in found]
    _row("(* is what --out gets)", *heads)
    _row("pieces", *(f"{way.rows:,}" for way in ways))
    _row("share of the counted tokens", *(f"{way.coverage:.3%}" for way in ways))
    _row("pieces that are never produced", *(f"{len(way.dead):,}" for way in ways))
    _row("  their share of the counted tokens", *(f"{way.stranded:.3%}" for way in ways))
    for form in ways[0].growth:
        _row(f"growth predicted, {form}", *(f"{way.growth[form]:+.3%}" for way in ways))
    for form, lengths in held_out.items():
        full, *tokens = lengths.tokens
        _row(f"tokens of the text, {form}", *(f"{n:,}" for n in tokens))
        _row(f"  growth from {full:,}", *(f"{n / full - 1:+.3%}" for n in tokens))
        _row(f"  of {lengths.texts:,} lines come back changed", *map(str, lengths.broken[1:]))
    _row("pieces whose text comes back changed", *(f"{len(way.broken):,}" for way in ways))
    if any(way.unknown for way in ways):
        _row("pieces that cannot be written", *(f"{len(way.unknown):,}" for way in ways))
        _row("  their share of the counted tokens", *(f"{way.unknown_share:.3%}" for way in ways))
    for name, way in found.items():
        dead = [base.pieces[i].text for i in way.dead.tolist()]
        for what, some in (("are never produced", dead), ("become unknown", way.unknown)):
            if some:
                print(f"  {name}: {listed(some, 8)} {what}")
    if not held_out:
        print(
            "Growth is predicted from the counts, by what the text of each piece becomes: "
            "--text=GLOB measures it on text that was not counted."
        )


def _row(name: str, *values: str) -> None:
    print(f"{name:<44}" + "".join(f"{value:>14}" for value in values))


@contextlib.contextmanager
def _pieces_bar() -> Iterator[Callable[[int, int], None]]:
    with tqdm(unit=" pieces", desc="taking away", delay=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


if __name__ == "__main__":
    cli.run(main)
