"""Measures maxlite beside what people use today: python -m tools.benchmark VERB [--flags]

  import    a model folder onto this machine's devices: time and peak memory, beside transformers
  surgery   depth up-scaling, LLaMA-Pro and vocabulary extension, beside `cp` of what they write

Prints the figures of one run side by side; a ratio is ours / peer. Everything is measured in fresh
processes, ours and the peer's in turn, and the median counts.
"""

import sys

from absl import flags

from maxlite.errors import InputError
from tools import cli
from tools.benchmarks import importing, surgery

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "The folder to measure with; empty: random weights, then deleted.")
flags.DEFINE_float("size_gb", 3.0, "Size of the random weights, in 10^9 bytes.", 0.001)
flags.DEFINE_string("dir", "", "Where the random weights are written; empty: a temporary folder.")
flags.DEFINE_integer("runs", 3, "Runs of each; the median counts.", 1)
flags.DEFINE_enum("against", "transformers", ["transformers", "none"], "import: the peer.")

VERBS = {"import": importing.measure, "surgery": surgery.measure}


def main():
    if verb not in VERBS:
        raise InputError(f"name what to measure, one of: {', '.join(VERBS)}; --help says more")
    return VERBS[verb](FLAGS)


if __name__ == "__main__":
    given = len(sys.argv) > 1 and not sys.argv[1].startswith("-")
    verb = sys.argv.pop(1) if given else ""
    cli.run(main)
