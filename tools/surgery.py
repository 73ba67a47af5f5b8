"""What the tools that rebuild a model share: they open it, say what they will do, and write it."""

from absl import flags

from maxlite import storage
from maxlite.console import bytes_bar, human, say
from maxlite.errors import InputError
from maxlite.hf import writer
from maxlite.hf.folder import LazyModel
from maxlite.state import init
from maxlite.state.host import open_lazy
from maxlite.transforms import Transform
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string("out", "", "The Hugging Face folder to write.")
flags.DEFINE_string("max_shard_size", "5GB", "Largest weight file, such as 5GB or 500MB.")
cli.take_addresses("out")


def opened() -> LazyModel:
    """The model that --model names, after what can be refused before any work has been."""
    cli.require("model", *(() if FLAGS.dry_run else ("out",)))
    check_out(FLAGS.model)
    return open_lazy(hub.model())


def check_out(*models: str) -> None:
    """Refuses an --out that cannot be written, or that is one of the models read.

    Raises:
      InputError: with what is in the way.
    """
    if FLAGS.out:
        out = storage.place(FLAGS.out)
        writer.parse_size(FLAGS.max_shard_size)
        if out.exists() and out.resolve() in {storage.place(m).resolve() for m in models}:
            raise InputError(f"--out={FLAGS.out} is the model itself: choose another folder")
        writer.refuse_existing(out, FLAGS.overwrite)


def operate(before: LazyModel, transform: Transform) -> LazyModel:
    """Applies a transform, prints its notes and, unless --dry_run is given, writes the result."""
    return finish(before, init.apply(before, [transform]))


def finish(before: LazyModel, after: LazyModel) -> LazyModel:
    """Prints what was done to a model and, unless --dry_run is given, writes the result."""
    for note in after.notes:
        say(note)
    say(f"{human(before.parameters)} parameters -> {human(after.parameters)}")
    if FLAGS.dry_run:
        say(f"would write {sum(t.nbytes for t in after.tensors.values()) / 1e9:.2f} GB")
    if FLAGS.dry_run or not FLAGS.out:
        return after
    out = storage.place(FLAGS.out)
    with bytes_bar(f"writing {out}") as progress:
        writer.write_model(
            out,
            after,
            max_shard_size=FLAGS.max_shard_size,
            overwrite=FLAGS.overwrite,
            progress=progress,
        )
    say(f"wrote {out}")
    return after
