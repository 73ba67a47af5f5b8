"""Keeps some rows of a model's vocabulary, in both tables, in the order they have.

Example: python -m tools.compact_vocab --model=FOLDER --kept_ids=FILE --tokenizer=NEW --out=FOLDER

The tokenizer is the one that belongs to the kept ids: its id 0 is the smallest of them. It is not
needed where the model's own keeps all its ids. BOS, EOS and the other ids that config.json and
generation_config.json name are renumbered.
"""

from absl import flags

from maxlite.transforms import CompactVocab
from tools import cli, surgery

FLAGS = flags.FLAGS

flags.DEFINE_string("kept_ids", "", "File with the ids to keep, one a line, in any order.")
flags.DEFINE_string("tokenizer", "", "Folder or file of the compacted tokenizer.")


def main():
    cli.require("model", "kept_ids")
    before = surgery.opened()
    after = surgery.operate(before, CompactVocab(FLAGS.kept_ids, FLAGS.tokenizer))
    if FLAGS.dry_run:
        return None
    return {
        "rows_before": before.architecture.vocab_size,
        "rows": after.architecture.vocab_size,
        "parameters": after.parameters,
        "out": FLAGS.out,
    }


if __name__ == "__main__":
    cli.run(main)
