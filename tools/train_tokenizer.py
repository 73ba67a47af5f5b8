"""Trains a tokenizer on text: SentencePiece BPE or Unigram, or byte-level BPE.

Example: python -m tools.train_tokenizer --text='ko/*.txt' --size=40000 --base=LLAMA --out=FOLDER

With a base the new one treats digits, bytes, spaces and normalization as that does (byte-level: it
cuts words alike), so that its pieces can be compared with the base's and added to them.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from absl import flags

from maxlite.config import Source
from maxlite.console import bytes_bar, clock, say
from maxlite.data.sources import documents, expand
from maxlite.errors import InputError
from maxlite.tokenizer.agreement import compare
from maxlite.tokenizer.companions import check_folder
from maxlite.tokenizer.definition import open_definition, write_definition
from maxlite.tokenizer.sampling import sample
from maxlite.tokenizer.training import KINDS, LEAST_COVERAGE, train
from maxlite.tokenizer.traits import kind_of
from tools import cli

FLAGS = flags.FLAGS
MB = 10**6
CHECKED = 10_000  # documents, at most, that the new tokenizer is tried on

flags.DEFINE_string("text", "", "Files, as globs with commas between them.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_integer("size", 0, "Pieces, special tokens and bytes among them: 8000 to 64000.")
flags.DEFINE_enum("kind", "", ["", *KINDS], "Empty: the base's, or sentencepiece_bpe.")
flags.DEFINE_string("base", "", "Folder or file of a tokenizer whose settings it shall have.")
flags.DEFINE_string("out", "", "The folder to make.")
flags.DEFINE_integer(
    "sample_mb", 500, "Learn from so much text, chosen over all documents by hash; 0: all of it.", 0
)
flags.DEFINE_float(
    "coverage",
    None,
    "Share of the text's characters that get a piece; the base's, or 0.9995.",
    LEAST_COVERAGE,
    1,
)


def main():
    cli.require("text", "size", "out")
    if FLAGS.size < 1:
        raise InputError(f"--size={FLAGS.size} must be positive")
    out = Path(FLAGS.out).expanduser()
    check_folder(out, FLAGS.overwrite)
    globs = [g for g in FLAGS.text.split(",") if g]
    files = [*dict.fromkeys(path for g in globs for path in expand(Source(glob=g)))]
    base = open_definition(FLAGS.base) if FLAGS.base else None
    kind = FLAGS.kind or (kind_of(base) if base else KINDS[0])
    size = sum(path.stat().st_size for path in files)
    most = FLAGS.sample_mb * MB or 1 << 62
    if FLAGS.dry_run:
        part = f", to learn from at most {FLAGS.sample_mb:,} MB of it" if most < size else ""
        say(f"would read {len(files):,} files with {size / MB:,.1f} MB{part}")
        say(f"would train {FLAGS.size:,} pieces of the kind {kind} and write {out}")
        return None
    with bytes_bar("read") as progress:
        chosen = sample(_read(files, size, progress), most)
    if chosen.documents and not chosen.texts:
        raise InputError(f"--sample_mb={FLAGS.sample_mb} is too little for a document; raise it")
    told = f"{chosen.size / MB:,.1f} of {chosen.bytes / MB:,.1f} MB"
    say(f"learning from {told} ({len(chosen.texts):,} of {chosen.documents:,} documents)")
    start = time.monotonic()
    with clock("train"):
        trained = train(chosen.texts, FLAGS.size, kind, base, FLAGS.coverage)
    seconds = time.monotonic() - start
    write_definition(trained, out, FLAGS.overwrite)
    some = chosen.texts[:: -(-len(chosen.texts) // CHECKED)]
    tokens = sum(map(len, trained.tokenizer().encode(some)))
    both = trained.form == "sentencepiece"
    figures = {
        "kind": kind,
        "size": len(trained.pieces),
        "documents": chosen.documents,
        "bytes": chosen.bytes,
        "sampled_documents": len(chosen.texts),
        "sampled_bytes": chosen.size,
        "seconds": round(seconds, 2),
        "tokens_per_char": tokens / sum(map(len, some)),
        "checked": len(some),
        "differing": compare(trained, some).differing if both else 0,
        "out": str(out),
    }
    kinds = [piece.kind for piece in trained.pieces]
    told = ", ".join(f"{kinds.count(k):,} {k}" for k in dict.fromkeys(kinds))
    print(f"{out}: {kind} with {len(kinds):,} pieces ({told}), trained in {seconds:.1f} s")
    print(f"{figures['tokens_per_char']:.4f} tokens per character of the text it learnt from")
    if both:
        told = f"{figures['differing']:,} of {len(some):,} documents"
        print(f"tokenizer.model and tokenizer.json differ on {told}")
    return figures


def _read(files: list[Path], size: int, progress) -> Iterator[str]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, size)

    for path in files:
        yield from documents(path, FLAGS.field, advance=advance)


if __name__ == "__main__":
    cli.run(main)
