"""Puts new pieces behind those of a tokenizer, whose own ids and scores stay as they are.

Example: python -m tools.merge_tokenizer --base=FOLDER --extra=FILE --keep=script:Hangul --out=NEW

  --method=merge          the pieces of another tokenizer, --extra, in its order
  --method=continued_bpe  pieces and merges learnt from --text on top of the base's own; all of them
                          can be produced, and byte-level tokenizers (Llama 3) can be extended so

--keep=script:Han|Hangul takes pieces of letters of these scripts only, so that text in others keeps
its ids; --keep=regex:PATTERN those in which a regular expression is found, and --keep=list:FILE
those in a file, one a line. --scores=ranked gives each piece a score of its own, by which
tokenizer.model and tokenizer.json segment alike; --scores=published gives all 0, as Chinese-LLaMA's
merge does. --verify=GLOB counts the lines of text on which the two differ.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

from maxlite.console import bytes_bar, say
from maxlite.errors import InputError
from maxlite.tokenizer.agreement import Agreement, compare
from maxlite.tokenizer.companions import check_folder
from maxlite.tokenizer.continued import learn
from maxlite.tokenizer.definition import Definition, open_definition, write_definition
from maxlite.tokenizer.merging import merge
from maxlite.tokenizer.pieces import listed
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.selection import selection
from tools import cli

FLAGS = flags.FLAGS
_METHODS = {"merge": ("extra",), "continued_bpe": ("text", "size")}

flags.DEFINE_string("base", "", "Folder or file of the tokenizer to extend.")
flags.DEFINE_string("extra", "", "merge: folder or file of the tokenizer with the new pieces.")
flags.DEFINE_string("keep", "", "The new pieces to take: script:..., regex:... or list:...")
flags.DEFINE_enum("scores", "ranked", ["ranked", "published"], "Of the new pieces: see above.")
flags.DEFINE_list("add_special", [], "Special tokens to put behind all, such as [PAD].")
flags.DEFINE_enum("method", "merge", [*_METHODS], "Where new pieces come from: see above.")
flags.DEFINE_string("text", "", "continued_bpe: the text to learn from, globs with commas between.")
flags.DEFINE_integer("size", 0, "continued_bpe: how many pieces to learn.", 0)
flags.DEFINE_string(
    "verify", "", "Compare the two forms on these files, globs with commas between."
)
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_string("out", "", "The folder to make.")


def main():
    cli.require("base", *_METHODS[FLAGS.method], *([] if FLAGS.dry_run else ["out"]))
    others = [f for method in _METHODS if method != FLAGS.method for f in _METHODS[method]]
    if idle := [f"--{flag}" for flag in others if FLAGS[flag].value]:
        raise InputError(f"--method={FLAGS.method} has no use for {', '.join(idle)}")
    if FLAGS.out:
        check_folder(Path(FLAGS.out).expanduser(), FLAGS.overwrite)
    base = open_definition(FLAGS.base)
    files = _files(FLAGS.verify)
    if files and (base.form != "sentencepiece" or base.without_json):
        reason = base.without_json or "it has no tokenizer.model"
        raise InputError(f"--verify has nothing to compare in {FLAGS.base}: {reason}")
    if FLAGS.method == "merge":
        merged, figures = _merged(base)
    else:
        merged, figures = _learned(base)
    figures |= _dead(base, merged)
    if files:
        figures["agreement"] = _verified(merged, files)
    elif FLAGS.scores == "published":
        print(
            "Equal scores cannot be written in tokenizer.json: --verify=GLOB counts on how many "
            "lines it differs from tokenizer.model."
        )
    if FLAGS.dry_run:
        say(f"would write {', '.join(merged.files)} to {FLAGS.out or 'a folder'}")
        return None
    write_definition(merged, FLAGS.out, FLAGS.overwrite)
    print(f"Written to {FLAGS.out}: {', '.join(sorted(merged.files))}")
    return {**figures, "out": FLAGS.out}


def _merged(base: Definition) -> tuple[Definition, dict]:
    keep = selection(FLAGS.keep) if FLAGS.keep else None
    result = merge(
        base,
        open_definition(FLAGS.extra),
        keep=keep,
        scores=FLAGS.scores,
        special=tuple(FLAGS.add_special),
    )
    _told(base, result.definition, len(result.added))
    print(f"  {result.known:,} pieces of the other tokenizer were there already")
    if keep:
        print(f"  {result.unselected:,} of its other pieces were left out by --keep")
    if result.foreign:
        print(
            f"  {len(result.foreign):,} of the new pieces were special tokens of the other "
            f"tokenizer, and are ordinary here: {listed(result.foreign)}"
        )
    if result.impossible:
        print(
            f"  {len(result.impossible):,} were left out, as they hold characters that have no "
            f"piece: {listed(result.impossible)}"
        )
    return result.definition, {
        "base_rows": len(base.pieces),
        "rows": len(result.definition.pieces),
        "added": len(result.added),
        "known": result.known,
        "unselected": result.unselected,
        "foreign": result.foreign,
        "impossible": len(result.impossible),
    }


def _learned(base: Definition) -> tuple[Definition, dict]:
    if FLAGS.scores != "ranked":
        raise InputError("--method=continued_bpe ranks its pieces; leave --scores=ranked")
    keep = selection(FLAGS.keep) if FLAGS.keep else None
    with bytes_bar("reading") as progress:
        texts = _texts(_files(FLAGS.text), progress)
        learned = learn(base, texts, FLAGS.size, keep=keep)
    definition = base.extended(learned.pieces, merges=learned.merges, special=FLAGS.add_special)
    _told(base, definition, len(learned.pieces))
    if len(learned.pieces) < FLAGS.size:
        print(f"  the text has no more than these; {FLAGS.size:,} were asked for")
    return definition, {
        "base_rows": len(base.pieces),
        "rows": len(definition.pieces),
        "added": len(learned.pieces),
    }


def _told(base: Definition, merged: Definition, added: int) -> None:
    special = f" + {len(FLAGS.add_special):,} special" if FLAGS.add_special else ""
    print(f"{len(base.pieces):,} ids + {added:,} new{special} = {len(merged.pieces):,}")


def _dead(base: Definition, merged: Definition) -> dict:
    """Tells the pieces that no text can produce: new ones, and old ones that it could before."""
    dead = unreachable(merged)
    new = dead[dead >= len(base.pieces)]
    stranded = np.setdiff1d(dead[dead < len(base.pieces)], unreachable(base))
    figures = {}
    for key, ids, what in (
        ("unreachable", new, "of the new pieces can never be produced"),
        ("stranded", stranded, "pieces of the base can no longer be produced"),
    ):
        examples = [merged.pieces[i].text for i in ids[:20].tolist()]
        print(f"  {len(ids):,} {what}" + (f": {listed(examples)}" if examples else ""))
        figures[key] = {"count": len(ids), "examples": examples}
    return figures


def _verified(merged: Definition, files: list[Path]) -> list[dict]:
    """Compares the two forms of a tokenizer on each file."""
    figures = []
    total = np.zeros(3, np.int64)
    with bytes_bar("verifying") as progress:
        found: list[tuple[Path, Agreement]] = [
            (file, compare(merged, texts)) for file, texts in _each(files, progress)
        ]
    print("tokenizer.model and tokenizer.json differ")
    for file, result in found:
        counts = (result.lines, result.differing, result.differing_special)
        total += counts
        _row(*counts, str(file))
        figures.append(
            {"name": str(file)}
            | dict(zip(("lines", "differing", "differing_special"), counts, strict=True))
        )
    if len(found) > 1:
        _row(*total.tolist(), "all files")
    first = next(((f, r.first) for f, r in found if r.first), None)
    if first:
        file, line = first
        print(f"  the first is line {line.number:,} of those in {file}: {line.text[:200]!r}")
        print(f"    tokenizer.model: {' '.join(line.model)[:400]}")
        print(f"    tokenizer.json:  {' '.join(line.json)[:400]}")
    return figures


def _row(lines: int, differing: int, special: int, name: str) -> None:
    print(
        f"  on {differing:,} of {lines:,} lines ({special:,} where tokenizer.json finds special "
        f"tokens in text): {name}"
    )


def _files(globs: str) -> list[Path]:
    from maxlite.config import Source
    from maxlite.data.sources import expand

    return [*dict.fromkeys(p for g in globs.split(",") if g for p in expand(Source(glob=g)))]


def _each(files: list[Path], progress) -> Iterator[tuple[Path, Iterator[str]]]:
    """Each file with its documents; `progress` is told of the bytes of all."""
    from maxlite.data.sources import documents

    total, done = sum(file.stat().st_size for file in files), 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        progress(done, total)

    for file in files:
        yield file, documents(file, FLAGS.field, advance=advance)


def _texts(files: list[Path], progress) -> Iterator[str]:
    for _, texts in _each(files, progress):
        yield from texts


if __name__ == "__main__":
    cli.run(main)
