"""Cleans a corpus: repairs, filters, masks and de-duplicates text, as a config file lists it.

Example: python -m tools.clean_corpus --config=configs/corpus/korean.py \\
    --config.text='raw/*.jsonl.gz' --config.out=clean

OUT gets shards of {"text", "id"} (.jsonl.zst, which training and all tools here read), funnel.json
and report.html, which show what each step let through. A cleaning that was stopped goes on when it
is started again; --overwrite replaces OUT. In a config file, a step's settings are its arguments;
steps of your own may be defined there, too (see maxlite/corpus/step.py).
"""

import sys
from typing import Any

from maxlite import flags
from maxlite.console import say
from maxlite.corpus.cleaning import Cleaning, resolve
from maxlite.corpus.perplexity import Predicted
from maxlite.errors import InputError
from maxlite.report.corpus import funnel_table, page
from tools import cli

FLAGS = cli.FLAGS
_HERE = "--config.executor=local"


def parse(argv: Any) -> tuple[Cleaning, list[str]]:
    """The cleaning that the command line says, and what of the command line is left."""
    return flags.parse_as(argv, Cleaning, resolve)


def describe() -> str:
    """The config's keys, for --help."""
    return f"config keys:\n{flags.describe(Cleaning)}"


def main(config: Cleaning) -> dict[str, Any] | None:
    try:
        from maxlite.corpus.clean import clean
    except ImportError as error:
        raise InputError(
            f"cleaning needs the package {error.name}: pip install -e '.[corpus]'"
        ) from None
    scorer = None
    if any(isinstance(step, Predicted) for step in config.steps):
        from maxlite.text_scorer import load_scorer as scorer
    figures = clean(
        config,
        scorer,
        page,
        overwrite=FLAGS.overwrite,
        dry_run=FLAGS.dry_run,
        command=[sys.executable, "-m", "tools.clean_corpus", *sys.argv[1:], _HERE],
    )
    if figures:
        print(funnel_table(figures))
        say(f"wrote {config.out}; report.html in it shows the same as a picture")
    return figures


if __name__ == "__main__":
    cli.run(main, parse, describe)
