"""Gives a model rows for the new pieces of a tokenizer that extends its own.

Example: python -m tools.extend_vocab --model=FOLDER --tokenizer=NEW --out=FOLDER

Old rows keep their bytes. New rows are made by a rule, one for each table:
RULES
The report on stdout counts rows by rule, compares the norms of old and new rows, and says how many
new rows are the same as another row before them: greedy decoding takes that one.
"""

import importlib.util
from pathlib import Path

import numpy as np
from absl import flags

from maxlite import outputs
from maxlite.errors import InputError
from maxlite.hf.folder import LazyModel, open_folder
from maxlite.hf.lazy import Concatenated
from maxlite.hf.names import EMBEDDING, HEAD
from maxlite.surgery.rows import RULES, NewRows, measure, repeated
from maxlite.transforms import ExtendVocab
from tools import cli, surgery

__doc__ = __doc__.replace("RULES", "\n".join(f"  {k:12} {v}" for k, v in RULES.items()))
FLAGS = flags.FLAGS

flags.DEFINE_string("tokenizer", "", "Folder or file of the tokenizer that the model shall get.")
flags.DEFINE_enum("input_init", "mean", [*RULES], "Rule for new rows of the input table.")
flags.DEFINE_enum(
    "output_init", "", ["", *RULES], "The same for the output table, if there is one; empty: mean."
)
flags.DEFINE_bool("match_norms", False, "Scale each new row to the median norm of the old ones.")
flags.DEFINE_bool("reuse_padding", False, "Let new pieces take rows beyond the old tokenizer.")
flags.DEFINE_bool("untie", False, "Give a tied model an output table of its own first.")
flags.DEFINE_integer("seed", 0, "Of normal and gaussian.", 0)
flags.DEFINE_string("plot", "", "Draw the norms of old and new rows into this PNG file.")


def main():
    cli.require("model", "tokenizer")
    plot = _plot_file()
    settings = ("tokenizer", "input_init", "output_init", "match_norms", "reuse_padding")
    transform = ExtendVocab(**{key: FLAGS[key].value for key in (*settings, "untie", "seed")})
    after = surgery.operate(surgery.opened(), transform)
    if FLAGS.dry_run:
        return None
    tables, norms = _report(after)
    if plot:
        _draw(norms, plot)
    rows = {key: after.metadata["vocabulary"][key] for key in ("base_rows", "rows")}
    return {**rows, "parameters": after.parameters, "tables": tables, "out": FLAGS.out}


def _report(after: LazyModel) -> tuple[list[dict], dict[str, dict[str, np.ndarray]]]:
    """Prints what the rows in the folder just written are like; gives figures and norms [V]."""
    written = open_folder(FLAGS.out).tensors
    figures, norms = [], {}
    for name in [n for n in (EMBEDDING, HEAD) if n in written]:
        table = after.tensors[name]
        assert isinstance(table, Concatenated)
        old, new = table.parts[:2]
        assert isinstance(new, NewRows)
        base, stop = old.shape[0], old.shape[0] + new.shape[0]
        all_norms, keys = measure(written[name].rows(0, stop))
        norms[name] = {"old": all_norms[:base], "new": all_norms[base:]}
        told = {kind: _spread(of) for kind, of in norms[name].items()}
        same = repeated(keys, base, stop)
        figures.append({"name": name, "rows": dict(new.counts), "norms": told, "repeated": same})
        print(
            f"{name}: {', '.join(f'{count:,} rows by {how}' for how, count in new.counts.items())}"
        )
        for kind, spread in told.items():
            print(f"  {kind} norms  " + "  ".join(f"{k} {v:.4g}" for k, v in spread.items()))
        if same:
            print(f"  {same:,} new rows are the same as a row before them")
    return figures, norms


def _spread(norms: np.ndarray) -> dict[str, float]:
    return {how: float(getattr(np, how)(norms)) for how in ("min", "median", "max")}


def _plot_file() -> Path | None:
    """Where --plot shall draw, after what can be refused about it."""
    if FLAGS.plot and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib: install it with pip install 'maxlite[plot]'")
    return cli.file_of("plot", ".png")


def _draw(norms: dict[str, dict[str, np.ndarray]], target: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(norms), 4), layout="constrained")
    for axes, (name, kinds) in zip(
        np.ravel(figure.subplots(1, len(norms))), norms.items(), strict=True
    ):
        edges = np.histogram_bin_edges(np.concatenate([*kinds.values()]), 60)
        for kind, values in kinds.items():
            axes.hist(values, edges, density=True, alpha=0.6, label=f"{len(values):,} {kind} rows")
        axes.set(title=name, xlabel="norm of a row", ylabel="density")
        axes.legend()
    with outputs.new_file(target) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


if __name__ == "__main__":
    cli.run(main)
