"""Asks the papers' claims anew: trains small models in each of their ways, and tables what comes.

Example: python -m tools.evidence --claims=eeve --out=runs/evidence

Each claim is a recipe of configs/evidence, trained with several seeds; docs/evidence.md has the
questions and the answers. Without --model, --corpus and --keep it makes a small model and text of
its own, once for all claims; with them the same is asked of yours. Start again to go on.
"""

import json
import re
import subprocess
import sys
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from absl import flags as absl_flags

from maxlite import flags, outputs
from maxlite.console import human, say
from maxlite.data.sources import expand
from maxlite.errors import InputError
from maxlite.hf.folder import open_shape
from maxlite.mixture import Source
from maxlite.recipe import Recipe
from maxlite.report import evidence
from maxlite.report.claims import CLAIMS
from maxlite.report.evidence import Figures
from maxlite.storage import place
from tools import cli

FLAGS = absl_flags.FLAGS

absl_flags.DEFINE_list("claims", [], "Which, with commas between them; empty: all.")
absl_flags.DEFINE_string("out", "runs/evidence", "Folder of all that is made.")
absl_flags.DEFINE_string("model", "", "A Hugging Face folder to begin from; empty: one is made.")
absl_flags.DEFINE_string("corpus", "", "Text to learn from, as one glob; empty: made.")
absl_flags.DEFINE_string("keep", "", "Text that the model knows, as one glob; empty: made.")
absl_flags.DEFINE_integer("seeds", 3, "Runs of each kind.", 1)
absl_flags.DEFINE_list("set", [], "More keys of the recipes, such as megabytes=2,batch_size=8.")
absl_flags.DEFINE_string(
    "page",
    "",
    "Put tables into this page, at its marks <!-- CLAIM -->; FILE#PART: <!-- CLAIM PART -->.",
)


def main() -> dict[str, Any] | None:
    claims = FLAGS.claims or list(CLAIMS)
    if unknown := [name for name in claims if name not in CLAIMS]:
        raise InputError(f"--claims has no '{unknown[0]}'; there are {', '.join(CLAIMS)}")
    if wrong := [word for word in FLAGS.set if not re.fullmatch(r"\w+=.+", word)]:
        raise InputError(f"--set has '{wrong[0]}'; write KEY=VALUE, a key of the claims' recipes")
    out = Path(FLAGS.out).expanduser()
    file, _, part = FLAGS.page.partition("#")
    page = Path(file).expanduser() if file else None
    marks = {name: f"{name} {part}".strip() for name in claims}
    for mark in marks.values() if page else ():
        _replaced(page, mark, "")
    for glob in filter(None, (FLAGS.corpus, FLAGS.keep)):
        expand(Source(glob))
    if FLAGS.model:
        open_shape(FLAGS.model)
    if FLAGS.dry_run:
        say(f"would ask {', '.join(claims)} in {out}, {FLAGS.seeds} seeds each")
        return None
    base, told = out / "base", {}
    more = dict(word.split("=", 1) for word in FLAGS.set)
    own = {field.name for field in fields(flags.class_of(["--config=evidence/base.py"], Recipe))}
    given = {key: getattr(FLAGS, key) for key in ("model", "corpus", "keep") if getattr(FLAGS, key)}
    if set(claims) - {"hooks"}:
        _recipe("base", base, {**given, **{key: more[key] for key in more.keys() & own}})
    begun = {
        "model": str(base / "model"),
        "corpus": str(base / "corpus.txt"),
        "keep": str(base / "keep.txt"),
        **given,
        "extended": str(base / "extended"),
        **{key: more[key] for key in more.keys() - own},
    }
    for name in claims:
        keys = {} if name == "hooks" else begun
        _recipe(name, out / name, {**keys, "seeds": FLAGS.seeds})
        found = json.loads((out / name / "runs.json").read_text(encoding="utf-8"))
        runs = found if name == "hooks" else found["runs"]
        tables = [table(runs) for table in CLAIMS[name]]
        said = "\n\n".join([*map(evidence.markdown, tables), _caption(name, begun, runs)])
        print(f"\n{name}\n\n{said}\n")
        if page:
            outputs.write_text(page, _replaced(page, marks[name], said))
            say(f"wrote the tables of {name} into {page}")
        told[name] = tables
    return told


def _recipe(name: str, out: Path, keys: dict[str, Any]) -> None:
    """Does a recipe of configs/evidence, or what is left of it."""
    words = [f"--config=evidence/{name}.py", f"--config.out={out}"]
    words += [f"--config.{key}={value}" for key, value in keys.items()]
    with subprocess.Popen([sys.executable, "-m", "maxlite.recipe", *words]) as process:
        try:
            status = process.wait()
        except BaseException:  # a signal: the recipe passes it on to the step that runs
            process.terminate()
            raise
    if status:
        raise InputError(f"{name} was not asked to its end, see above; start again to go on")


def _caption(name: str, begun: dict[str, str], runs: list[Figures]) -> str:
    """What a reader must know of how the tables came about."""
    seeds = f"{FLAGS.seeds} seeds, ± half of their range" if FLAGS.seeds > 1 else "1 seed"
    where = f"jax {version('jax')}; {seeds}"
    if name == "hooks":
        return f"{where}."
    read = {key: value for key, value in begun.items() if key in ("model", "corpus", "keep")}
    own = [key for key in read if getattr(FLAGS, key)]
    what = f"{', '.join(place(read[key]).name for key in own)}" if own else "made text and model"
    largest = max(run["parameters"] for run in runs)
    return f"{what}, at most {human(largest)} parameters; {where}."


def _replaced(page: Path, mark: str, between: str) -> str:
    """The text of a page with something else between two marks.

    Raises:
      InputError: it cannot be read, or they are not there.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise InputError(f"--page={page} cannot be read: {e}") from e
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
    before, found, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not (found and closing):
        raise InputError(f"--page={page} needs these lines: {begin.strip()} and, below it, {end}")
    return f"{before}{begin}{between}\n{closing}{after}"


if __name__ == "__main__":
    cli.run(main)
