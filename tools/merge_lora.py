"""Merges PEFT adapters into a model: W + scale B A, in float32, then the type that W had.

Example: python -m tools.merge_lora --model=FOLDER --adapter=ADAPTER --out=FOLDER
"""

from absl import flags

from maxlite.transforms import MergeLora
from tools import cli, surgery

FLAGS = flags.FLAGS

flags.DEFINE_string("adapter", "", "Adapter folders, with commas between them: merged in order.")


def main():
    cli.require("adapter")
    after = surgery.operate(surgery.opened(), MergeLora(FLAGS.adapter))
    adapters = after.metadata["adapters"]
    return None if FLAGS.dry_run else {"adapters": adapters, "out": FLAGS.out}


if __name__ == "__main__":
    cli.run(main)
