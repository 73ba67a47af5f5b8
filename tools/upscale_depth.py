"""Rebuilds a model with its layers in a new order, most of them more than once.

Example: python -m tools.upscale_depth --model=FOLDER --method=dus --drop=8 --out=FOLDER

SOLAR is dus, iDUS interlocked, LLaMA-Pro llama_pro (it inserts layers that add nothing yet). The
list is shown before any work; --dry_run stops there, and needs no more of a model than config.json.
"""

from pathlib import Path

from absl import flags

from maxlite import outputs, storage
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.hf.folder import LazyModel, open_shape, without_weights
from maxlite.state.host import open_lazy
from maxlite.state.run import is_run
from maxlite.storage import Url
from maxlite.surgery import layers, mergekit
from maxlite.transforms import UpscaleDepth
from tools import cli, hub, surgery

FLAGS = flags.FLAGS

flags.DEFINE_enum("method", "", ["", *layers.METHODS], "How layers are chosen.")
flags.DEFINE_integer("drop", 0, "dus, interlocked: layers each of the two copies leaves out.", 0)
flags.DEFINE_string("group", "", "interlocked: layers of one copy before the other's turn, or all.")
flags.DEFINE_integer("add", 0, "llama_pro: layers to insert.", 0)
flags.DEFINE_string("layers", "", "The list itself, such as 0-23,8-31 (ends included).")
flags.DEFINE_string("mergekit", "", "A passthrough recipe (YAML); --model stands for its only one.")
flags.DEFINE_string("write_mergekit", "", "Write the list as a mergekit recipe to this file.")
flags.DEFINE_bool("as_llama", False, "Make a Llama of a Mistral: its sliding window is dropped.")


def main():
    method, group = _method()
    transform = UpscaleDepth(
        method=method,
        drop=FLAGS.drop,
        group=group,
        add=FLAGS.add,
        layers=FLAGS.layers,
        mergekit=FLAGS.mergekit,
        as_llama=FLAGS.as_llama,
    )
    named = mergekit.read(FLAGS.mergekit).models if FLAGS.mergekit else []
    needed = [] if named else ["model"]
    needed += ["model"] if FLAGS.revision and named else []
    needed += [] if FLAGS.dry_run or FLAGS.write_mergekit else ["out"]
    cli.require(*needed)
    model = hub.model() if FLAGS.model else named[0]
    surgery.check_out(model, *named)
    target = _recipe_file()
    path = storage.place(model)
    shape_is_enough = FLAGS.dry_run and not is_run(path) and without_weights(path)
    before = open_shape(path) if shape_is_enough else open_lazy(model)
    recipe = _recipe(before, transform) if target else ""
    after = surgery.operate(before, transform)
    if target and not FLAGS.dry_run:
        outputs.write_text(target, recipe)
        say(f"wrote {target}")
    return {
        "parameters": after.parameters,
        "num_hidden_layers": after.architecture.num_hidden_layers,
        **after.metadata.get("layers", {}),
    }


def _method() -> tuple[str, int]:
    """--method and --group; interlocked with all layers of a copy in one group is dus."""
    if not FLAGS.group.isdecimal():
        if FLAGS.group == "all" and FLAGS.method == "interlocked":
            return "dus", 0
        if FLAGS.group:
            raise InputError(
                f"--group={FLAGS.group} is no number of layers: give one, or all with"
                " --method=interlocked"
            )
    return FLAGS.method, int(FLAGS.group or 0)


def _recipe_file() -> Path | None:
    """Where --write_mergekit shall write, after what can be refused about it."""
    if not FLAGS.write_mergekit:
        return None
    for flag in ("mergekit", "as_llama"):
        if FLAGS[flag].value:
            raise InputError(f"--write_mergekit writes a list of layers: leave out --{flag}")
    return cli.file_of("write_mergekit")


def _recipe(model: LazyModel, plan: UpscaleDepth) -> str:
    """The recipe, with the model under a name by which mergekit finds it."""
    folder = storage.place(FLAGS.model)
    name = str(folder.resolve()) if folder.exists() else FLAGS.model
    if isinstance(folder, Url) or is_run(folder) or set("+@") & set(name):
        raise InputError(
            f"mergekit cannot read {name}: --write_mergekit needs a folder of Hugging Face's layout"
            " or a hub id, without + and @ in its name"
        )
    if model.architecture.attention_bias or model.architecture.mlp_bias:
        raise InputError(f"mergekit would leave out the biases of {name}: no recipe is written")
    depth = model.architecture.num_hidden_layers
    chosen = layers.chosen(
        depth,
        method=plan.method,
        drop=plan.drop,
        group=plan.group,
        add=plan.add,
        layers=plan.layers,
    )
    return mergekit.written(name, *chosen)


if __name__ == "__main__":
    cli.run(main)
