"""Gives a tied model an output table of its own: a copy of its input table.

Example: python -m tools.untie --model=FOLDER --out=FOLDER
"""

from absl import flags

from maxlite.transforms import Untie
from tools import cli, surgery

FLAGS = flags.FLAGS


def main():
    after = surgery.operate(surgery.opened(), Untie())
    return None if FLAGS.dry_run else {"parameters": after.parameters, "out": FLAGS.out}


if __name__ == "__main__":
    cli.run(main)
