"""Writes a run's model as a Hugging Face folder, adapters merged; or its adapters alone for PEFT.

Example: python -m tools.export_hf --run=RUN --out=FOLDER
"""

from absl import flags

from maxlite import storage
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli

FLAGS = flags.FLAGS

flags.DEFINE_string("run", "", "The run folder.")
flags.DEFINE_string("out", "", "The Hugging Face folder to write.")
flags.DEFINE_integer("step", -1, "Which checkpoint; -1 for the latest that verifies.", -1)
flags.DEFINE_enum(
    "dtype",
    "",
    ["", "float32", "bfloat16", "float16"],
    "Of every tensor; empty: the type each had in the source.",
)
flags.DEFINE_bool("adapter", False, "Write a run's adapters as a PEFT folder, not merged.")
flags.DEFINE_bool("card", False, "Write a model card, README.md, from what the runs tell.")
flags.DEFINE_string("max_shard_size", "5GB", "Largest weight file, such as 5GB or 500MB.")
cli.take_addresses("out")


def main():
    cli.require("run", "out")
    out = storage.place(FLAGS.out)
    cli.check_out(out)
    from maxlite import card
    from maxlite.hf.writer import parse_size, refuse_existing
    from maxlite.state import export
    from maxlite.state.ready import ready_model
    from maxlite.state.run import RunFolder

    parse_size(FLAGS.max_shard_size)
    refuse_existing(out, FLAGS.overwrite)
    run = RunFolder(storage.place(FLAGS.run))
    ready = ready_model(str(run.path), step=FLAGS.step, weights=not FLAGS.dry_run)
    if FLAGS.adapter and not ready.architecture.lora.rank:
        raise InputError(f"{run.path} has no adapters: leave out --adapter")
    if FLAGS.adapter and FLAGS.card:
        raise InputError("--card tells of a whole model: leave out --adapter, or --card")
    if FLAGS.dry_run:
        say(f"would export step {ready.step} of {run.path} to {out}")
        return None
    if ready.step < 0:
        raise InputError(f"{run.path} has no checkpoint to export")
    with ready.on_mesh():
        if FLAGS.adapter:
            base = export.write_adapter(out, ready.source, ready.params, run, FLAGS.dtype)
            say(f"wrote the adapter of step {ready.step} of {run.path} to {out}")
            say(f"it belongs to {base or 'the model that the run began with, made by the tools'}")
            return {"step": ready.step, "out": str(out), "base": base}
        source = ready.source
        if FLAGS.card:
            source = card.carded(source, source.metadata, run, out.resolve().name, FLAGS.dtype)
        export.write(
            out,
            source,
            ready.params,
            dtype=FLAGS.dtype,
            max_shard_size=FLAGS.max_shard_size,
            overwrite=FLAGS.overwrite,
        )
    if ready.architecture.lora.rank:
        say("its adapters are merged into the weights")
    say(f"exported step {ready.step} of {run.path} to {out}")
    return {"step": ready.step, "out": str(out)}


if __name__ == "__main__":
    cli.run(main)
