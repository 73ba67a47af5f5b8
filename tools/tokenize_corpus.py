"""Tokenises a corpus of any size into a folder that training reads instead of the text.

Example: python -m tools.tokenize_corpus --tokenizer=FOLDER --text='ko/*.jsonl.zst' --out=ko.tokens

Give the folder, or the address that it was uploaded to, where a config names text:
--config.data.train=gs://bucket/ko.tokens. It stands alone, and training with it is the same,
sequence by sequence, as with the text itself.

The work is kept in OUT.work, shard by shard: the same command goes on there. On several machines
with one file system, each runs it with --processes=N and its own --process, from 0 to N - 1;
whichever comes last joins what all have made.
"""

import math
from pathlib import Path
from typing import Any

from absl import flags

from maxlite.config import Source
from maxlite.console import bytes_bar, human, say
from maxlite.data.making import Making, make, stamps
from maxlite.data.sources import META, expand
from maxlite.data.tokens import open_cache
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from tools import cli

FLAGS = flags.FLAGS

flags.DEFINE_string("tokenizer", "", "A folder, or a .model or .json file.")
flags.DEFINE_string(
    "text",
    "",
    "Files of text (.txt, .jsonl, both also .gz or .zst, .parquet), as globs with commas; also "
    "addresses such as s3://bucket/*.txt.",
)
flags.DEFINE_string("out", "", "The folder to make.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_integer("workers", 0, "Processes on this machine; 0: as many as there are cores.", 0)
flags.DEFINE_integer("process", 0, "Which of --processes machines this is, from 0.", 0)
flags.DEFINE_integer("processes", 1, "Machines that share the work.", 1)
flags.DEFINE_float("shard_mb", 0, "Text for one file of tokens, in 10^6 bytes; 0: 32 to 256.", 0)


def main() -> dict[str, Any] | None:
    cli.require("tokenizer", "text", *([] if FLAGS.dry_run else ["out"]))
    if FLAGS.process >= FLAGS.processes:
        raise InputError(f"--process={FLAGS.process} must be below --processes={FLAGS.processes}")
    if FLAGS.shard_mb and not 0.001 <= FLAGS.shard_mb < math.inf:
        raise InputError(f"--shard_mb={FLAGS.shard_mb:g} must be a number of at least 0.001, or 0")
    out = _out()
    files = [*dict.fromkeys(f for g in FLAGS.text.split(",") if g for f in expand(Source(glob=g)))]
    making = Making(
        files,
        stamps(files),
        load_tokenizer(FLAGS.tokenizer),
        out.with_name(f"{out.name}.work"),
        FLAGS.field,
        FLAGS.txt,
        int(FLAGS.shard_mb * 10**6),
        f"--text={FLAGS.text}",
    )
    if FLAGS.processes > 1 and making.is_made(out):
        say(f"{out} is there already")
        return _figures(out)
    if FLAGS.out:
        cli.check_out(out)
    if FLAGS.dry_run:
        begun = making.begun(FLAGS.overwrite)
        share = slice(FLAGS.process, None, FLAGS.processes)
        own = making.todo(FLAGS.process, FLAGS.processes) if begun else making.shards[share]
        size = human(sum(shard.size for shard in own), "B")
        say(f"would tokenise {size} in {len(own)} of {len(making.shards)} shards, into {out}")
        return None
    with bytes_bar("tokenising") as progress:
        done = make(
            making, out, FLAGS.process, FLAGS.processes, FLAGS.workers, FLAGS.overwrite, progress
        )
    if not done:
        missing, shards = len(making.todo()), len(making.shards)
        say(
            f"process {FLAGS.process} of {FLAGS.processes} has done its share; {missing} of "
            f"{shards} shards are still missing in {making.folder}, and who is last joins all"
        )
        return {"out": "", "shards": shards, "missing": missing}
    say(f"wrote {out}")
    return _figures(out)


def _out() -> Path:
    out = Path(FLAGS.out or "tokens").expanduser()
    if not out.parent.is_dir():
        raise InputError(f"--out={FLAGS.out} lies in a folder that does not exist")
    if out.is_file():
        raise InputError(f"--out={FLAGS.out} is a file: choose another place")
    if out.is_dir() and any(out.iterdir()) and not (out / META).is_file():
        raise InputError(f"--out={FLAGS.out} is a folder of something else: choose another place")
    return out


def _figures(out: Path) -> dict[str, Any]:
    cache = open_cache(out)
    characters, size = int(cache.chars.sum()), int(cache.bytes.sum())
    tokens = len(cache.tokens)
    print(f"{tokens:,} tokens, {len(cache):,} documents, {cache.shards:,} shards")
    print(f"tokens per character {tokens / characters:.4f}")
    print(f"tokens per byte      {tokens / size:.4f}")
    print(f"fingerprint          {cache.content}")
    return {
        "out": str(out),
        "documents": len(cache),
        "tokens": tokens,
        "bytes": size,
        "characters": characters,
        "tokens_per_character": tokens / characters,
        "shards": cache.shards,
        "fingerprint": cache.content,
        "tokenizer": cache.tokenizer,
    }


if __name__ == "__main__":
    cli.run(main)
