"""Chooses documents with many and rare new tokens, and writes the choice as an order.

Example: python -m tools.select_documents --config=stage2.py --share=0.5 --min_count=100 --out=ORDER

The sources, the tokenizer and the held-out share are those of the stage. With --source=ko it
chooses from that one alone: the others are read as they are, and all keep their weights, so that
the documents chosen from ko have the share of the training that all of ko had.

A document scores by the share of its tokens that are new (ids from base_rows on), the rare ones
weighing more, and is drawn with a chance in proportion to its score to the power 1/temperature,
once at most; documents without new tokens come last. With --min_count, documents come first that
have a new token of which there are fewer yet.

Train on it with --config.data.order=ORDER --config.data.train=, which leaves the sources to the
order. --config.KEY=VALUE sets a key of the stage here, too.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from maxlite.config import Config
from maxlite.console import say
from maxlite.corpus.candidates import Candidates
from maxlite.corpus.selection import Selection, check, select
from maxlite.data.corpus import load_corpus, read_at_all
from maxlite.data.orders import check_place, read_order, write_order
from maxlite.errors import InputError
from maxlite.flags import parse
from maxlite.hf.folder import resolve
from maxlite.state.host import open_lazy
from maxlite.state.init import apply
from maxlite.tokenizer import Tokenizer, check_rows, load_tokenizer
from tools import cli

FLAGS = flags.FLAGS
_RAREST = 10

flags.DEFINE_list(
    "source", "", "Names of the sources to choose from, as one corpus; empty: the only one."
)
flags.DEFINE_integer("base_rows", 0, "Ids from here on are new; 0: as the model says.", 0)
flags.DEFINE_float("share", 0.5, "Of the text to choose, above 0 and at most 1.", 0.0, 1.0)
flags.DEFINE_enum("by", "tokens", ["tokens", "documents"], "What the share is of.")
flags.DEFINE_float("temperature", 1.0, "0: the best; inf: evenly among those with new tokens.", 0.0)
flags.DEFINE_integer("min_count", 0, "How often each new token should occur in the choice.", 0)
flags.DEFINE_integer("seed", 0, "Of the drawing.")
flags.DEFINE_string("out", "", "Folder of the order to write.")


def main(config: Config) -> dict[str, Any] | None:
    cli.require("out")
    out = Path(FLAGS.out).expanduser()
    cli.check_out(out)
    check_place(out, FLAGS.overwrite)
    tokenizer, base_rows = _vocabulary(config)
    names = _sources(_known(config))
    settings = {
        key: FLAGS[key].value for key in ("share", "by", "temperature", "min_count", "seed")
    }
    check(base_rows, tokenizer.rows, **settings)
    if FLAGS.dry_run:
        say(
            f"would choose {FLAGS.share:.4g} of the {FLAGS.by} of {', '.join(names)} for "
            f"{tokenizer.rows - base_rows:,} new tokens, and write {out}"
        )
        return None
    corpus = load_corpus(config.data, tokenizer, config.seed, config.seq_len, config.batch_size)
    views = {s.name: view for s, view in zip(corpus.order.sources, corpus.views, strict=True)}
    candidates = [
        Candidates(cache.tokens, cache.offsets, cache.hashes, views[name].ascending)
        for name in names
        for cache in [views[name].cache]
    ]
    chosen = select(candidates, base_rows, tokenizer.rows, **settings)
    for name, documents in zip(names, chosen.documents, strict=True):
        if not len(documents):
            raise InputError(
                f"no document of source {name!r} is chosen, others have more new tokens; leave it "
                "out of --source to read all of it, or out of data.train"
            )
    notes = {"tool": "select_documents", "base_rows": base_rows, **settings}
    order = corpus.chosen(dict(zip(names, chosen.documents, strict=True)), notes)
    write_order(out, order, FLAGS.overwrite)
    figures = notes | chosen.figures() | {"fingerprint": order.fingerprint}
    figures["sources"] = {n: len(d) for n, d in zip(names, chosen.documents, strict=True)}
    figures["rarest"] = _rarest(chosen, tokenizer, base_rows)
    _print(figures)
    say(f"wrote {out}")
    return figures


def _known(config: Config) -> list[str]:
    """The names of the stage's sources."""
    if config.data.order:
        return [listed.source.name for listed in read_order(config.data.order).sources]
    return [source.name for source in read_at_all(config.data.train)]


def _sources(known: list[str]) -> list[str]:
    """Which of the stage's sources to choose from."""
    names = FLAGS.source or known
    if not FLAGS.source and len(known) > 1:
        raise InputError(f"--source must be given: the stage has {', '.join(known)}")
    for name in names:
        if name not in known or names.count(name) > 1:
            said = "is named twice" if name in known else f"is none of {', '.join(known)}"
            raise InputError(f"--source={','.join(names)}: {name!r} {said}")
    return names


def _vocabulary(config: Config) -> tuple[Tokenizer, int]:
    """The stage's tokenizer, and the first id that is new to its model."""
    if config.model:
        model = apply(open_lazy(str(resolve(config.model, config.revision))), config.init)
        tokenizer = load_tokenizer(config.data.tokenizer or model.files)
        check_rows(tokenizer, model.architecture.vocab_size)
        known = model.architecture.base_rows
    elif config.data.tokenizer:
        tokenizer, known = load_tokenizer(config.data.tokenizer), config.architecture.base_rows
    else:
        raise InputError("config keys 'model' and 'data.tokenizer' are both empty; name one")
    if not (FLAGS.base_rows or known):
        raise InputError(
            f"{config.model or 'the config'} does not say which tokens are new: its vocabulary was "
            "not extended; give --base_rows"
        )
    return tokenizer, FLAGS.base_rows or known


def _rarest(chosen: Selection, tokenizer: Tokenizer, base_rows: int) -> list[dict[str, Any]]:
    """The new tokens that the choice has the fewest of, and the corpus some."""
    there = np.flatnonzero(chosen.before)
    rarest = there[np.lexsort((there, chosen.before[there], chosen.after[there]))][:_RAREST]
    return [
        {
            "id": base_rows + i,
            "piece": tokenizer.piece(base_rows + i),
            "before": int(chosen.before[i]),
            "after": int(chosen.after[i]),
        }
        for i in rarest.tolist()
    ]


def _print(figures: dict[str, Any]) -> None:
    before, after, target = figures["before"], figures["after"], figures["target"]
    rows = [("", "before", "after")]
    for key in ("documents", "tokens", "new_tokens"):
        rows.append((key.replace("_", " "), f"{before[key]:,}", f"{after[key]:,}"))
    rows.append(("share of new tokens", f"{before['new_share']:.2%}", f"{after['new_share']:.2%}"))
    for share, count in before["occurrences"].items():
        name = {"0%": "fewest", "50%": "median", "100%": "most"}.get(share, share)
        now = after["occurrences"][share]
        rows.append((f"occurrences of a new token, {name}", f"{count:,}", f"{now:,}"))
    for name, *amounts in rows:
        print(f"{name:<36}", *(f"{amount:>14}" for amount in amounts))
    if target["min_count"]:
        print(
            f"{target['reached']:,} of {target['new']:,} new tokens occur at least "
            f"{target['min_count']} times; {target['all_there_is']:,} more as often as in the "
            f"corpus, which has too few ({target['absent']:,} of them none); {target['short']:,} "
            "would need a larger share"
        )
    print("rarest of those that the corpus has (piece, id, before, after):")
    for row in figures["rarest"]:
        print(f"  {row['piece']!r}  {row['id']}  {row['before']:,}  {row['after']:,}")


if __name__ == "__main__":
    cli.run(main, parse)
