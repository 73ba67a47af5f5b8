"""Tells how much of an evaluation text a run has read in training, by runs of words.

Example: python -m tools.contamination --run=runs/korean --text='ko=check/*.txt'

Every 13 words in a row (--ngram) of the text are looked up in what the steps so far have read, in
any case and punctuation. Without --text the run's own evaluation sets are judged. An order's folder
may stand for the run, with --tokenizer and --steps.
"""

import json
import re

from absl import flags

from maxlite import storage
from maxlite.config import Config, Data
from maxlite.console import human, say
from maxlite.data.contamination import MOSTLY, overlap
from maxlite.data.corpus import load_corpus
from maxlite.data.orders import read_order
from maxlite.data.sets import named_parts, run_parts
from maxlite.errors import InputError
from maxlite.state.run import RunFolder, is_run
from tools import cli, orders

FLAGS = flags.FLAGS
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what could change how a terminal behaves

flags.DEFINE_string("run", "", "A run, or an order's folder.")
flags.DEFINE_string(
    "text", "", "[NAME=]GLOB with commas between them; empty: what the run evaluates itself."
)
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_float(
    "held_out", 0.0, "Only what training with this data.held_out leaves out; 0: all.", 0.0, 0.5
)
flags.DEFINE_integer("ngram", 13, "Words in a row that make an overlap.", 2)
flags.DEFINE_integer("min_words", 5, "Documents with fewer words are not judged.", 2)
flags.DEFINE_integer("worst", 5, "Documents to show of each file.", 0)
flags.DEFINE_integer("steps", 0, "Look at so many steps; 0: as many as the run has done.", 0)
flags.DEFINE_integer("batch_size", 0, "Sequences a step; 0: the run's, or 8.", 0)


def main():
    cli.require("run")
    path = storage.place(FLAGS.run)
    if is_run(path) and RunFolder(path).description.get("kind") == "import":
        raise InputError(f"{path} is an imported model, which has not trained: it has read nothing")
    file, (steps, batch_size) = read_order(path), _read(path)
    tokenizer = orders.tokenizer(path)
    if FLAGS.text:
        parts = named_parts(FLAGS.text, FLAGS.field, FLAGS.txt, FLAGS.held_out)
    elif FLAGS.held_out:
        raise InputError("--held_out is for --text; a run knows what it holds out")
    elif orders.is_run(path):
        parts = run_parts(path)
    else:
        raise InputError(f"--text must be given: the order in {path} is no run, and judges nothing")
    if FLAGS.min_words > FLAGS.ngram:
        raise InputError(f"--min_words={FLAGS.min_words} is more than --ngram={FLAGS.ngram}")
    corpus = load_corpus(Data(order=str(path)), tokenizer, file.seed, file.seq_len, batch_size)
    sequences = steps * batch_size
    say(
        f"comparing {len(parts)} files with {steps:,} steps of {batch_size} x {file.seq_len} "
        f"tokens of {', '.join(source.name for source in corpus.order.sources)}"
    )
    if FLAGS.dry_run:
        return None
    found = overlap(corpus, tokenizer, sequences, parts, FLAGS.ngram, FLAGS.min_words, FLAGS.worst)
    _print(found)
    return {
        "order": file.fingerprint,
        "steps": steps,
        "batch_size": batch_size,
        "ngram": FLAGS.ngram,
        "min_words": FLAGS.min_words,
        "files": found,
    }


def _read(path):
    """How many steps were read, and the sequences of each."""
    if not orders.is_run(path):
        if not FLAGS.steps:
            raise InputError(f"--steps must be given: the order in {path} is no run, with its own")
        return FLAGS.steps, FLAGS.batch_size or Config().batch_size
    status = path / "status.json"
    steps = FLAGS.steps or (json.loads(status.read_bytes())["step"] if status.is_file() else 0)
    if not steps:
        raise InputError(f"the run in {path} has read nothing yet; --steps says how far to look")
    return steps, FLAGS.batch_size or orders.config(path)["batch_size"]


def _print(found):
    print(
        f"{'overlap':>8} {'n-grams read':>20} {'documents':>10} {'touched':>9} "
        f"{f'{MOSTLY:.0%} read':>9}  file"
    )
    for one in found:
        read = f"{human(one['found'])} of {human(one['ngrams'])}"
        where = ", ".join(f"{n:,} in {name}" for name, n in one["sources"].items())
        short = one["documents"] - one["judged"]
        left_out = f"; {short:,} documents are too short to judge" if short else ""
        share = f"{one['overlap']:.2%}" if one["judged"] else "–"
        print(
            f"{share:>8} {read:>20} {one['judged']:>10,} {one['touched']:>9,} "
            f"{one['mostly']:>9,}  {one['name']}{f' ({where})' if where else ''}{left_out}"
        )
    for one in found:
        for worst in one["worst"]:
            text = _CONTROL.sub(" ", worst["text"])
            print(
                f"\n{one['name']}, document {worst['document']}: {worst['overlap']:.0%} of "
                f"{worst['words']} words are in {worst['source']}\n  {text}"
            )


if __name__ == "__main__":
    cli.run(main)
