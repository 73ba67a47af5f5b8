"""Shows what a run reads and in which order: shares by source, and the first sequences as text.

Example: python -m tools.show_order --order=runs/korean --steps=1000 --count=5

An order is a run, or a folder with order.json in it. Each document of a sequence begins with ▸ and
has a colour of its own; … is where a document goes on in another sequence. Of conversations what is
learnt stands between ⟦ and ⟧. With --tokens each piece is shown, parted by ·.
"""

import re
import sys
from dataclasses import asdict
from itertools import cycle
from typing import Any

import numpy as np
from absl import flags

from maxlite import storage
from maxlite.config import Data
from maxlite.console import human, say
from maxlite.data.corpus import Corpus, load_corpus
from maxlite.data.examples import Example, Part, examples
from maxlite.data.orders import read_order
from maxlite.errors import InputError
from maxlite.storage import Place
from maxlite.tokenizer import Tokenizer
from tools import cli, orders

FLAGS = flags.FLAGS
_COLOURS = (36, 33, 35, 32, 34, 31)  # cyan first, red last
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what could change how a terminal behaves

flags.DEFINE_string("order", "", "An order's folder, or a run.")
flags.DEFINE_integer("steps", 0, "Tell the shares over so many steps; 0: the run's, or 1000.", 0)
flags.DEFINE_integer("batch_size", 0, "Sequences a step; 0: the run's, or 8.", 0)
flags.DEFINE_integer("step", 0, "Show sequences from this step on.", 0)
flags.DEFINE_integer("count", 3, "Show so many sequences.", 0)
flags.DEFINE_bool("tokens", False, "Show pieces of the tokenizer, not their text.")
flags.DEFINE_enum("color", "auto", ["auto", "always", "never"], "auto: if stdout is a terminal.")


def main() -> dict[str, Any] | None:
    cli.require("order")
    path = storage.place(FLAGS.order)
    file = read_order(path)
    began = orders.config(path)
    steps, batch_size = (FLAGS[k].value or began[k] for k in ("steps", "batch_size"))
    tokenizer = orders.tokenizer(path)
    settings = Data(order=str(path))
    if FLAGS.dry_run:
        file.check(settings, tokenizer, file.seq_len)
        say(f"would show the order in {path}: {len(file.sources)} sources")
        return None
    corpus = load_corpus(settings, tokenizer, file.seed, file.seq_len, batch_size)
    figures = _figures(corpus, steps)
    shown = list(examples(corpus, FLAGS.step, FLAGS.count))
    figures["sequences"] = [_described(example, tokenizer) for example in shown]
    _print(path, corpus, figures)
    colour = FLAGS.color == "always" or (FLAGS.color == "auto" and sys.stdout.isatty())
    for example, said in zip(shown, figures["sequences"], strict=True):
        _print_sequence(example, said, corpus, colour)
    return figures


def _figures(corpus: Corpus, steps: int) -> dict[str, Any]:
    order, file = corpus.order, corpus.file
    try:
        order.check_length(steps * order.batch_size)
        ends = ""
    except InputError as e:
        ends = str(e)
    sources = [
        {
            **asdict(listed.source),
            **order.read(steps)[known.name]._asdict(),
            "epochs_allowed": known.epochs,
            "chosen": listed.documents is not None,
            **{key: getattr(known, key) for key in ("documents", "tokens", "bytes", "windows")},
        }
        for listed, known in zip(file.sources, order.sources, strict=True)
    ]
    names = [source.name for source in order.sources]
    return {
        "fingerprint": file.fingerprint,
        "batches": order.fingerprint,
        "kept": len(file.kept.numbers) if file.kept else 0,
        **{key: getattr(file, key) for key in ("base", "notes", "tokenizer", "held_out", "seed")},
        "seq_len": order.seq_len,
        "batch_size": order.batch_size,
        "steps": steps,
        "too_long": ends,
        "sources": sources,
        "phases": [
            {"step": s, "shares": {n: x / sum(w) for n, x in zip(names, w, strict=True)}}
            for s, w in order.phases
        ],
    }


def _described(example: Example, tokenizer: Tokenizer) -> dict[str, Any]:
    documents = [
        {
            "document": part.document,
            "tokens": len(part.ids),
            "begun": part.begun,
            "goes_on": part.goes_on,
            "text": tokenizer.decode(part.ids.tolist(), skip_special=part.learnt is None),
            "shown": _shown(part, tokenizer),
            "learnt": None if part.learnt is None else part.learnt.astype(int).tolist(),
        }
        for part in example.parts
    ]
    places = {k: getattr(example, k) for k in ("step", "row", "source", "epoch", "window")}
    return {**places, "documents": documents}


def _shown(part: Part, tokenizer: Tokenizer) -> str:
    """A document for people: as text or as pieces, with brackets around what is learnt of it."""
    ids, chat = part.ids.tolist(), part.learnt is not None
    learnt = part.learnt if chat else np.ones(len(ids), bool)
    starts = [0, *(np.flatnonzero(np.diff(learnt)) + 1).tolist()]
    said, before = "", 0
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        if FLAGS.tokens:
            span = "·".join(map(tokenizer.piece, ids[start:end]))
        else:  # not each span alone: a decoder drops the space before the first piece
            text = tokenizer.decode(ids[:end], skip_special=not chat)
            span, before = text[before:], len(text)
        said += f"⟦{span}⟧" if chat and learnt[start] else span
    return said


def _print(path: Place, corpus: Corpus, figures: dict[str, Any]) -> None:
    print(f"order: {path}, fingerprint {figures['fingerprint'][:16]}")
    if figures["base"]:
        print(f"made from the order with fingerprint {figures['base'][:16]}")
    if figures["kept"]:
        print(f"of which it keeps {figures['kept']:,} sequences")
    for key, value in figures["notes"].items():
        print(f"  {key}: {value}")
    tokens = figures["steps"] * figures["batch_size"] * figures["seq_len"]
    print(
        f"seed {figures['seed']}, {figures['held_out']:.2%} held out, tokenizer "
        f"{figures['tokenizer'][:16]}\n{figures['steps']:,} steps of {figures['batch_size']} x "
        f"{figures['seq_len']} tokens, {human(tokens)} tokens:\n"
    )
    print(f"{'asked':>8} {'achieved':>8} {'read':>14} {'documents':>10} {'tokens':>8} {'bytes':>8}")
    for source in figures["sources"]:
        allowed = f" of {source['epochs_allowed']:g}" if source["epochs_allowed"] else ""
        read = f"{source['epochs']:.3g}{allowed} x"
        sizes = f"{human(source['documents']):>10} {human(source['tokens']):>8}"
        chosen = ", chosen documents" if source["chosen"] else ""
        print(
            f"{source['asked']:>8.2%} {source['share']:>8.2%} {read:>14} {sizes} "
            f"{human(source['bytes'], 'B'):>8}  {source['name']} ({source['glob']}{chosen})"
        )
    if len(figures["phases"]) > 1:
        for phase in figures["phases"]:
            mixed = ", ".join(f"{name} {share:.2%}" for name, share in phase["shares"].items())
            print(f"from step {phase['step']}: {mixed}")
    if figures["too_long"]:
        print(f"a run of this length would be refused: {figures['too_long']}")


def _print_sequence(example: Example, said: dict[str, Any], corpus: Corpus, colour: bool) -> None:
    windows = {source.name: source.windows for source in corpus.order.sources}
    documents = said["documents"]
    size = sum(part["tokens"] for part in documents)
    numbers = [str(part["document"]) for part in documents]
    cut = documents[0]["learnt"] is None  # text, whose documents follow one another
    of = f"{numbers[0]}-{numbers[-1]}" if cut else ", ".join(numbers)
    print(
        f"\nstep {example.step}, row {example.row}: {example.source}, row {example.window} of "
        f"{windows[example.source]:,}, pass {example.epoch + 1}; {size} tokens of documents {of}"
    )
    for code, part in zip(cycle(_COLOURS), documents, strict=False):
        text = _CONTROL.sub("\ufffd", part["shown"]).strip("\n").replace("\n", "\n  ")
        text = f"▸ {'… ' * part['begun']}{text}{' …' * part['goes_on']}"
        print(f"\033[{code}m{text}\033[0m" if colour else text)


if __name__ == "__main__":
    cli.run(main)
