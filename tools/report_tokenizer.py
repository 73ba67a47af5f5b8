"""Draws up one page on how good a tokenizer is, alone, beside others and beside what it extends.

Example: python -m tools.report_tokenizer --base=OLD --tokenizer=NEW --model=FOLDER
  --text='ko=ko/*.txt,en=en/*.txt' --out=report.html

The page is one file that loads nothing. It shows tokens per character, word and byte; texts that
are segmented otherwise than by the base and should not be; pieces that no text produces; how often
pieces occur, the new ones above all; what the tables are of a model; and pieces that look wrong.
"""

import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

from absl import flags

from maxlite import outputs
from maxlite.config import Source
from maxlite.console import bytes_bar, human, say
from maxlite.data.parts import text_parts
from maxlite.data.sources import documents, expand
from maxlite.errors import InputError
from maxlite.hf import config_json, json_values
from maxlite.parameters import EMBEDDING, HEAD, shapes
from maxlite.report.tokenizer import page
from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.reporting import Model, report
from maxlite.tokenizer.usage import Subject, Text
from tools import cli

FLAGS = flags.FLAGS
_OWN = "tokenizer"  # files of this name are known by their folder's

flags.DEFINE_string(
    "tokenizer", "", "Folders, .model or .json files, with commas; each may be NAME=PATH."
)
flags.DEFINE_string("base", "", "What they extend, or are to be compared with; also NAME=PATH.")
flags.DEFINE_string(
    "text",
    "",
    "Files of text (.txt, .jsonl, both also .gz, .parquet), as globs with commas. NAME=GLOB puts "
    "them in a group, a language say; without a name that is the files' folder.",
)
flags.DEFINE_string("model", "", "Model folders or config.json files, with commas; also NAME=PATH.")
flags.DEFINE_string("out", "", "The HTML file to write.")
flags.DEFINE_string(
    "scripts", "", "What new pieces are for, as Hangul|Han; empty: the scripts that they are in."
)
flags.DEFINE_integer("lines", 0, "Compare at most so many documents of each file; 0: all.", 0)
flags.DEFINE_integer("examples", 12, "Show so many examples of everything.", 1)
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_integer("workers", 0, "Processes that count; 0: as many as there are cores.", 0)


def main() -> dict[str, Any] | None:
    cli.require("tokenizer", "text", "out")
    started = time.monotonic()
    out = outputs.new_path("out", FLAGS.out, FLAGS.overwrite)
    texts = _texts()
    models = [_model(name, path) for name, path in _named(FLAGS.model, "--model").items()]
    given = _named(FLAGS.tokenizer, "--tokenizer")
    base = _named(FLAGS.base, "--base")
    if len(base) > 1:
        raise InputError(f"--base={FLAGS.base} names several tokenizers; one is the base")
    if both := sorted(base.keys() & given.keys()):
        raise InputError(
            f"the base and a tokenizer are both called {both[0]!r}; write --base=NAME=PATH"
        )
    opened = [
        Subject(n, open_definition(Path(p).expanduser()))
        for n, p in [*base.items(), *given.items()]
    ]
    if FLAGS.dry_run:
        size = human(sum(part.size for text in texts for part in text.parts), "B")
        say(f"would look at {len(opened)} tokenizers in {size} of text, {len(texts)} files")
        return None
    figures = report(
        opened[len(base) :],
        opened[0] if base else None,
        texts,
        models=models,
        meant_for=[name for name in FLAGS.scripts.split("|") if name],
        lines=FLAGS.lines,
        examples=FLAGS.examples,
        workers=FLAGS.workers,
        bar=bytes_bar,
    )
    made = page(figures)
    outputs.write_text(out, made)
    seconds = time.monotonic() - started
    say(f"wrote {out} ({human(len(made.encode()), 'B')}) in {seconds:.0f} s")
    _print(figures)
    return figures


def _named(flag: str, what: str) -> dict[str, str]:
    """Paths by name: the name that is given, or the file's or its folder's own."""
    found: dict[str, str] = {}
    for entry in [entry for entry in flag.split(",") if entry]:
        name, path = _split(entry)
        name = name or _name(Path(path).expanduser())
        if name in found:
            raise InputError(
                f"{what}={flag} has two that are called {name!r}; tell them apart as NAME=PATH"
            )
        found[name] = path
    return found


def _split(entry: str) -> tuple[str, str]:
    """The name before "=", if there is one, and the rest; paths may hold that sign, too."""
    name, sign, rest = entry.partition("=")
    if not sign or not name or not rest or set(name) & set("/*?[") or Path(entry).exists():
        return "", entry
    return name, rest


def _name(path: Path) -> str:
    plain = path.stem in (_OWN, "config") and path.suffix in (".json", ".model")
    return (
        path.absolute().parent.name if plain else path.stem if path.is_file() else path.name
    ) or str(path)


def _texts() -> list[Text]:
    """The files that --text names, each in its group."""
    groups: dict[Path, str] = {}
    for entry in [entry for entry in FLAGS.text.split(",") if entry]:
        name, pattern = _split(entry)
        for path in expand(Source(glob=pattern)):
            if path in groups:
                raise InputError(f"--text={FLAGS.text} names {path} twice, which would count twice")
            groups[path] = name
    folders = {path.absolute().parent for path, name in groups.items() if not name}
    taken = Counter(folder.name for folder in folders) + Counter({*groups.values()})
    return [
        _text(path, name or (folder.name if taken[folder.name] == 1 else str(folder)))
        for path, name in groups.items()
        for folder in [path.absolute().parent]
    ]


def _text(path: Path, group: str) -> Text:
    field, txt = FLAGS.field, FLAGS.txt
    parts = text_parts([path], field, txt)
    return Text(str(path), group, parts, lambda advance: documents(path, field, txt, advance))


def _model(name: str, source: str) -> Model:
    path = Path(source).expanduser()
    path = path / "config.json" if path.is_dir() else path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    about = config_json.architecture(json_values.parse(data, str(path)), str(path))
    rest = sum(math.prod(s) for n, s in shapes(about).items() if n not in (EMBEDDING, HEAD))
    return Model(name, about.vocab_size, about.hidden_size, about.tie_word_embeddings, rest)


def _print(figures: dict[str, Any]) -> None:
    for group in [*figures["groups"], figures["total"]]:
        said = ", ".join(
            f"{who} {'–' if ratio is None else f'{ratio:.4f}'}"
            for who, ratio in group["tokens_per_character"].items()
        )
        print(f"tokens per character, {group['name']}: {said}")
    for of in figures["tokenizers"]:
        dead = of["unreachable"]
        print(f"{of['name']}: {of['rows']:,} ids, {dead['count']:,} pieces that no text produces")
        if of["not_an_extension"]:
            print(f"  {of['not_an_extension']}")
        if "changes" in of:
            changes = of["changes"]
            print(
                f"  {of['new']:,} new pieces, {of['never_new']:,} of them not in these texts, "
                f"{dead['new']:,} in none; {dead['lost']:,} old ones are in none any more"
            )
            print(
                f"  {changes['changed']:,} of {changes['compared']:,} texts without "
                f"{', '.join(of['meant_for']) or 'new'} letters are segmented otherwise"
            )
        if of["agreement"] and "differing" in of["agreement"]:
            forms = of["agreement"]
            print(
                f"  tokenizer.model and tokenizer.json differ on {forms['differing']:,} of "
                f"{forms['lines']:,} texts"
            )
    for model in figures["models"]:
        said = ", ".join(f"{who} {of['share']:.1%}" for who, of in model["tokenizers"].items())
        print(f"tables of {model['name']}: now {model['now']['share']:.1%}; {said}")


if __name__ == "__main__":
    cli.run(main)
