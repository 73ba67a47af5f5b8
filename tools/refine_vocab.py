"""Extends a tokenizer by the pieces of a script that a corpus holds often enough: EEVE's loop.

Example: python -m tools.refine_vocab --base=LLAMA --text='ko/*.txt' --script=Hangul --out=FOLDER

Candidates are the pieces of the script (as in merge_tokenizer --keep=script:...) that the base
lacks and a tokenizer trained on the text has. The text is counted with the base and the candidates;
pieces seen less often than --min_count are dropped and banned, missing letters seen more often are
added, and so again until nothing changes. --min_count=auto is EEVE's 6,000 for 100 GB, scaled to
the text, and at least 100.

Pieces that more frequent ones are made of are not dropped before these; --as_published drops them.
--keep_list and --ban_list are files of pieces, one a line, that are never dropped, or never added.

  --method=merge          any two pieces make a third (SentencePiece, and Llama 2's tokenizer.json)
  --method=continued_bpe  candidates are merges learnt on top of the base's own; the only way for
                          byte-level bases such as Llama 3's

After each round the work is saved in OUT.work; the same command goes on there. OUT gets the
tokenizer, refine.json (rounds, settings, what was banned) and counts.json (of count_tokens).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from absl import flags

from maxlite import outputs
from maxlite.config import Source
from maxlite.console import bytes_bar, clock, human, say
from maxlite.data.parts import text_parts
from maxlite.data.sources import documents, expand
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer
from maxlite.tokenizer.companions import check_folder
from maxlite.tokenizer.continued import learn
from maxlite.tokenizer.counting import count
from maxlite.tokenizer.counts import Counts
from maxlite.tokenizer.definition import Definition, open_definition, write_definition
from maxlite.tokenizer.growth import Growth, characters, proposed, readable
from maxlite.tokenizer.pieces import listed
from maxlite.tokenizer.refining import (
    MAX_ROUNDS,
    Refined,
    Rules,
    State,
    begin,
    refine,
    scaled,
)
from maxlite.tokenizer.resuming import Work
from maxlite.tokenizer.sampling import Sample, sample
from maxlite.tokenizer.selection import read_list
from maxlite.tokenizer.training import train
from maxlite.tokenizer.traits import kind_of
from tools import cli

FLAGS = flags.FLAGS
MB = 10**6

flags.DEFINE_string("base", "", "Folder or file of the tokenizer to extend; BPE.")
flags.DEFINE_string("text", "", "The corpus: files, as globs with commas between them.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_bool("skip_invalid", False, "Leave out documents that are not UTF-8; count them.")
flags.DEFINE_string("script", "", "Unicode's name for the script: Hangul, Thai, Han|Hiragana ...")
flags.DEFINE_string(
    "candidates",
    "40000",
    "Pieces of the tokenizer to train (continued_bpe: to learn), or folder or file of one.",
)
flags.DEFINE_string("min_count", "auto", "How often a new piece must be seen: a number, or auto.")
flags.DEFINE_string("keep_list", "", "File of pieces that are never dropped, one a line.")
flags.DEFINE_string("ban_list", "", "File of pieces that are never added, one a line.")
flags.DEFINE_enum("method", "", ["", "merge", "continued_bpe"], "Empty: what suits the base.")
flags.DEFINE_enum("scores", "ranked", ["ranked", "published"], "As in merge_tokenizer.")
flags.DEFINE_bool("as_published", False, "Drop rare pieces even if that strands frequent ones.")
flags.DEFINE_integer("sample_mb", 500, "Train on so much of the text, chosen by hash; 0: all.", 0)
flags.DEFINE_integer("max_rounds", MAX_ROUNDS, "Give up after so many rounds.", 1)
flags.DEFINE_integer("workers", 0, "Processes that count; 0: as many as there are cores.", 0)
flags.DEFINE_string("out", "", "The folder to make.")


def main() -> dict[str, Any] | None:
    cli.require("base", "text", "script", *([] if FLAGS.dry_run else ["out"]))
    out = Path(FLAGS.out).expanduser()
    if FLAGS.out:
        check_folder(out, FLAGS.overwrite)
    rules = _rules()
    base = open_definition(FLAGS.base)
    method, other = _method(base)
    files = [*dict.fromkeys(p for g in FLAGS.text.split(",") if g for p in expand(Source(glob=g)))]
    work = Work(out.with_name(f"{out.name}.work"), _settings(base, other, method, rules, files))
    state = work.load(anew=FLAGS.overwrite) if FLAGS.out else None
    size = sum(path.stat().st_size for path in files)
    if FLAGS.dry_run:
        _plan(base, method, rules, files, size, state)
        return None
    if state is None:
        state = begin(base, _candidates(base, other, method, rules, files, size), rules)
        if other is None:
            work.save(state)  # training need not be done again
    elif state.rounds:
        say(f"going on after round {len(state.rounds)}, saved in {work.folder}")
    parts = text_parts(files, FLAGS.field, skip_invalid=FLAGS.skip_invalid)

    def counted(tokenizer: Tokenizer, number: int) -> Counts:
        with bytes_bar(f"counting, round {number}") as progress:
            return count(tokenizer, parts, FLAGS.workers, progress)

    def save(reached: State) -> None:
        last = reached.rounds[-1]
        say(
            f"round {len(reached.rounds)}: of {last.candidates:,} new pieces {last.dropped:,} "
            f"dropped, {last.added:,} characters added"
        )
        work.save(reached)

    refined = refine(base, state, rules, counted, save, FLAGS.max_rounds)
    figures = _figures(base, refined, method, rules)
    _write(refined, figures, work, out)
    _print(base, refined, figures)
    return {**figures, "banned": len(refined.state.banned), "out": str(out)}


# --- what is asked for -----------------------------------------------------------------------


def _rules() -> Rules:
    characters(FLAGS.script)  # which refuses what is none
    number = 0
    if FLAGS.min_count != "auto":
        number = int(FLAGS.min_count) if FLAGS.min_count.isdecimal() else 0
        if number < 1:
            raise InputError(f"--min_count={FLAGS.min_count} must be auto, or a number from 1")
    keep, ban = (_list(FLAGS[name].value) for name in ("keep_list", "ban_list"))
    return Rules(FLAGS.script, number, keep, ban, FLAGS.scores, FLAGS.as_published)


def _list(name: str) -> tuple[str, ...]:
    """The lines of a file, each once."""
    return read_list(Path(name).expanduser()) if name else ()


def _method(base: Definition) -> tuple[str, Definition | None]:
    """How candidates are found, and the tokenizer that has them, if one is given."""
    if base.model != "bpe":
        raise InputError(f"{base.where} is a Unigram model; only BPE tokenizers can be refined")
    in_bytes = base.form == "byte_level"
    method = FLAGS.method or ("continued_bpe" if in_bytes else "merge")
    if in_bytes and method == "merge":
        raise InputError(
            f"{base.where} merges bytes by its own list, which other pieces cannot enter; take "
            "--method=continued_bpe"
        )
    if method == "continued_bpe" and FLAGS.scores != "ranked":
        raise InputError("--method=continued_bpe ranks its pieces; leave --scores=ranked")
    if not FLAGS.candidates.isdecimal():
        if method == "continued_bpe":
            raise InputError(
                f"--candidates={FLAGS.candidates} must be a number here: continued_bpe learns "
                "them from the text"
            )
        return method, open_definition(FLAGS.candidates)
    if int(FLAGS.candidates) < 1:
        raise InputError(f"--candidates={FLAGS.candidates} must be positive")
    return method, None


def _settings(
    base: Definition, other: Definition | None, method: str, rules: Rules, files: list[Path]
) -> dict[str, Any]:
    """All that the outcome depends on, by flags."""
    about = [(str(path.resolve()), path.stat()) for path in files]
    return {
        "base": base.tokenizer().fingerprint,
        "text": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in about],
        "field": FLAGS.field,
        "skip_invalid": FLAGS.skip_invalid,
        "script": rules.script,
        "candidates": other.tokenizer().fingerprint if other else int(FLAGS.candidates),
        "min_count": FLAGS.min_count,
        "keep_list": list(rules.keep),
        "ban_list": list(rules.ban),
        "method": method,
        "scores": rules.scores,
        "as_published": rules.as_published,
        "sample_mb": None if other else FLAGS.sample_mb,
    }


def _plan(
    base: Definition, method: str, rules: Rules, files: list[Path], size: int, state: State | None
) -> None:
    least = f"{rules.min_count:,}" if rules.min_count else f"about {scaled(size):,}"
    say(f"would count {human(size, 'B')} in {len(files):,} files once a round, keep >= {least}")
    lacking = sum(c not in base.ids for c in characters(rules.script))
    say(f"{base.where} has {len(base.pieces):,} ids; the script has {lacking:,} other characters")
    if state:
        number = len(state.rounds)
        say(f"would go on after {number} rounds with {len(state.growth.pieces):,} new pieces")
    elif FLAGS.candidates.isdecimal():
        say(f"would first find candidates by {method}: {int(FLAGS.candidates):,} pieces")
    else:
        say(f"would take candidates from {FLAGS.candidates}")


# --- candidates ------------------------------------------------------------------------------


def _candidates(
    base: Definition,
    other: Definition | None,
    method: str,
    rules: Rules,
    files: list[Path],
    size: int,
) -> Growth:
    if other is None:
        chosen = _sample(files, size)
        with clock("training"):
            if method == "continued_bpe":
                return _learned(base, rules, chosen)
            other = train(chosen.texts, int(FLAGS.candidates), kind_of(base), base)
    return proposed(base, other, rules.script, rules.scores)


def _sample(files: list[Path], size: int) -> Sample:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, size)

    skip = (lambda _: None) if FLAGS.skip_invalid else None  # counted when the text is
    with bytes_bar("reading") as progress:
        texts = (t for path in files for t in documents(path, FLAGS.field, "line", advance, skip))
        chosen = sample(texts, FLAGS.sample_mb * MB or 1 << 62)
    if not chosen.documents:
        raise InputError(f"there is no text in {listed(map(str, files))}")
    if not chosen.texts:
        raise InputError(f"--sample_mb={FLAGS.sample_mb} is too little for a document; raise it")
    told = f"{chosen.size / MB:,.1f} of {chosen.bytes / MB:,.1f} MB"
    say(f"candidates come from {told} ({len(chosen.texts):,} of {chosen.documents:,} documents)")
    return chosen


def _learned(base: Definition, rules: Rules, chosen: Sample) -> Growth:
    """Merges; those that would hardly be seen often enough aren't learnt at all."""
    least = rules.min_count or scaled(chosen.bytes)
    learned = learn(
        base,
        chosen.texts,
        int(FLAGS.candidates),
        keep=characters(rules.script).__contains__,
        min_count=max(1, least * chosen.size // chosen.bytes // 2),
    )
    merges = None if learned.merges is None else tuple(learned.merges)
    return Growth(tuple(learned.pieces), merges)


# --- what came of it -------------------------------------------------------------------------


def _figures(base: Definition, refined: Refined, method: str, rules: Rules) -> dict[str, Any]:
    state, total = refined.state, refined.counts.total
    return {
        "base": base.tokenizer().fingerprint,
        "base_rows": len(base.pieces),
        "rows": len(refined.definition.pieces),
        "new": len(state.growth.pieces),
        "script": rules.script,
        "method": method,
        "scores": rules.scores,
        "as_published": rules.as_published,
        "min_count": state.min_count,
        "min_count_given": FLAGS.min_count,
        "rounds": [
            {"round": i, **asdict(each), "tokens_per_character": each.tokens_per_character}
            for i, each in enumerate(state.rounds, 1)
        ],
        "documents": total.documents,
        "skipped": total.skipped,
        "bytes": total.bytes,
        "characters": total.characters,
        "tokens": total.tokens,
        "tokens_per_character": state.rounds[-1].tokens_per_character,
        "rare": {readable(base, piece): number for piece, number in refined.rare.items()},
        "unreachable": [readable(base, piece) for piece in refined.unreachable],
        "keep": list(rules.keep),
        "banned": list(state.banned),
    }


def _write(refined: Refined, figures: dict[str, Any], work: Work, out: Path) -> None:
    work.save(refined.state)
    counts = work.folder / "counts.json"
    refined.counts.write(counts)
    report = outputs.json_text(figures).encode()
    definition = refined.definition
    more: dict[str, Path | bytes] = {"refine.json": report, "counts.json": counts}
    write_definition(
        Definition({**definition.files, **more}, definition.where), out, FLAGS.overwrite
    )
    work.remove()


def _print(base: Definition, refined: Refined, figures: dict[str, Any]) -> None:
    columns = ("round", "candidates", "dropped", "added", "new", "tokens", "tokens/character")
    print("".join(f"{name:>{max(12, len(name) + 2)}}" for name in columns))
    for i, row in enumerate(refined.state.rounds, 1):
        numbers = (i, row.candidates, row.dropped, row.added, row.pieces, row.tokens)
        print("".join(f"{n:>12,}" for n in numbers) + f"{row.tokens_per_character:>18.4f}")
    least, new = figures["min_count"], figures["new"]
    print(f"{len(base.pieces):,} ids + {new:,} new = {figures['rows']:,}: {FLAGS.out}")
    seen = f"{new - len(refined.rare):,} of the new pieces are seen at least {least:,} times"
    print(f"{seen}; {len(figures['banned']):,} were dropped or banned")
    if refined.rare:
        names = listed(readable(base, piece) for piece in refined.rare)
        print(f"{len(refined.rare):,} are seen less often, and kept or parts of others: {names}")
    if figures["unreachable"]:
        names = listed(figures["unreachable"])
        print(f"no text produces {names} of --keep_list any more: add what they are made of to it")
    if figures["skipped"]:
        print(f"{figures['skipped']:,} documents left out, which are not valid UTF-8")


if __name__ == "__main__":
    cli.run(main)
