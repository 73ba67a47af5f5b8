"""Measures maxlite beside what people use today: python -m tools.benchmark VERB [--flags]

  attention   every backend that runs here, beside the dense one and beside torch's
  checkpoint  how long a save holds up training, beside a step; and a step while it is written
  data        packed sequences that are read, beside what a step consumes; tokenising, cleaning
  drift       how far old rows move that a hook should hold, beside rows that are frozen
  import      a model folder onto this machine's devices: time and peak memory, beside transformers
  freeze      a step with a part frozen, beside the full step and a hook that masks gradients
  loss        the loss in chunks with its gradient, beside the plain one and PyTorch's
  qlora       adapters over weights in nf4, beside the same over weights as stored; with --text
  second_look a second round on what was hard, beside one on a random half
  startup     a person's wait for the first step of training, beside a plain script on transformers
  surgery     depth up-scaling, LLaMA-Pro and vocabulary extension, beside `cp` of what they write
  tokenize    counting the tokens of a text file, beside the bare batch encoder of its library
  train       tokens a second of training, beside torch, transformers and PEFT; --size, --modes
  record      puts --figures=FILE[,FILE], which --json has written, into --page

  python -m tools.benchmark --suite=cpu|gpu|tpu runs one after the other, with --dry_run prints them

Prints the figures of one run side by side; a ratio is ours / peer. Everything is measured in fresh
processes, ours and the peer's in turn, and the median counts.
"""

import importlib
import shlex
import sys
from pathlib import Path

from absl import flags

from maxlite.errors import InputError
from tools import cli
from tools.benchmarks import measured, record, suite

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "The folder to measure with; empty: random weights, then deleted.")
flags.DEFINE_float("size_gb", 3.0, "Size of the random weights, in 10^9 bytes.", 0.001)
flags.DEFINE_string("dir", "", "Where the random weights are written; empty: a temporary folder.")
flags.DEFINE_integer("runs", 3, "Runs of each; the median counts.", 1)
flags.DEFINE_string(
    "text", "", "data, qlora, second_look: globs, with commas; tokenize: a .txt file."
)
flags.DEFINE_string("tokenizer", "", "data, tokenize: a folder, or a .model or .json file.")
flags.DEFINE_integer("steps", 200, "second_look: steps of round one.", 1)
flags.DEFINE_enum(
    "remat", "none", ["none", "matmuls", "attention", "full"], "freeze, train: as in the config."
)
flags.DEFINE_string("shapes", "", "attention: rows x tokens x heads x kv heads x size, commas.")
flags.DEFINE_integer("mean", 300, "attention: tokens of a document, on average.", 1)
flags.DEFINE_integer("processes", 1, "import: also into so many processes of one device.", 1)
flags.DEFINE_enum("against", "transformers", ["transformers", "none"], "import, train: the peer.")
flags.DEFINE_enum(
    "size", "24M", ["24M", "110M", "1B", "8B", "tiny", "tiny_packed"], "train: the model's."
)
flags.DEFINE_list("modes", ["full", "new_rows", "lora"], "train: what trains.")
flags.DEFINE_integer("compile_limit", 300, "train: seconds that the peer's compiler has.", 1)

flags.DEFINE_enum("suite", "", ["", "cpu", "gpu", "tpu"], "Run a list of commands, not one verb.")
flags.DEFINE_string("parts", "", "suite: folder for the figures of each, to go on from later.")
flags.DEFINE_bool("tiny", False, "suite: over shapes that say nothing but that all of it runs.")
flags.DEFINE_list("figures", [], "record: files of rows.")
flags.DEFINE_string("page", "docs/benchmarks.md", "record: the page that they belong in.")

VERBS = {
    "attention": "attention",
    "checkpoint": "checkpointing",
    "data": "data",
    "drift": "drift",
    "freeze": "freeze",
    "import": "importing",
    "loss": "loss",
    "qlora": "qlora",
    "second_look": "second_look",
    "startup": "startup",
    "surgery": "surgery",
    "tokenize": "tokenize",
    "train": "train",
}  # modules


def main():
    if FLAGS.suite and not verb:
        return suite.measure(FLAGS)
    if verb == "record":
        cli.require("figures")
        return record.record(FLAGS.figures, Path(FLAGS.page).expanduser(), FLAGS.dry_run)
    if FLAGS.suite or verb not in VERBS:
        known = ", ".join([*VERBS, "record"])
        raise InputError(f"name what to measure, one of: {known}; or --suite; --help says more")
    rows = importlib.import_module(f"tools.benchmarks.{VERBS[verb]}").measure(FLAGS)
    return rows and measured.stamped(rows, verb, shlex.join(["tools.benchmark", verb, *given]))


if __name__ == "__main__":
    named = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    verb = sys.argv.pop(1) if named else ""
    given = [a for a in sys.argv[1:] if not a.startswith(("--json", "--overwrite"))]
    cli.run(main)
