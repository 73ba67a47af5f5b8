"""Turns a Hugging Face folder into a run at step 0 that stands alone.

Example: python -m tools.import_hf --model=FOLDER --out=RUN

The run holds the weights in the types they are stored in, the config and the tokenizer files; the
folder may be deleted afterwards. Training, generation, evaluation and export take it as a model.
"""

from absl import flags

from maxlite import storage
from maxlite.console import human, say
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder or a hub id.")
flags.DEFINE_string("out", "", "The run folder to make.")
cli.take_addresses("out")


def main():
    cli.require("model", "out")
    out = storage.place(FLAGS.out)
    cli.check_out(out)
    from maxlite.state import imported
    from maxlite.state.source import open_model

    source = open_model(hub.model())
    for note in source.notes:
        say(f"{source.where}: {note}")
    if FLAGS.dry_run:
        say(f"would import {source.where} into {out}")
        return None
    figures = imported.import_model(source, out, FLAGS.overwrite)
    say(
        f"imported {human(figures['parameters'])} parameters ({figures['bytes'] / 2**30:.2f} GiB) "
        f"into {out}"
    )
    return figures


if __name__ == "__main__":
    cli.run(main)
