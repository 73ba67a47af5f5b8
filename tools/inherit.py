"""Makes a smaller model of the layers, heads and channels of a larger one that matter most.

Example: python -m tools.inherit --model=FOLDER --target=config.json --criterion=l2 --out=FOLDER

What matters is told by the weights (l1, l2), by the model at work on text (activation, taylor,
learned, block_influence, leave_one_out: these need --text), by --scores that tools.importance has
written, or not at all (random, first). The sizes are those of --target or of numbers; those left
out stay as they are.
"""

import dataclasses
from pathlib import Path

from absl import flags

from maxlite.console import bytes_bar, human, say
from maxlite.errors import InputError
from maxlite.hf import metadata
from maxlite.surgery import adapters, depth, inheritance, magnitude
from maxlite.surgery.scores import KINDS
from maxlite.surgery.units import counts
from maxlite.transforms import Inherit
from tools import cli, hub, surgery

FLAGS = flags.FLAGS
RUNNING = {  # criteria for which the model must run, and what they score
    "activation": ("groups", "channels", "residual"),
    "taylor": KINDS,
    "learned": KINDS,
    "block_influence": ("layers",),
    "leave_one_out": ("layers",),
}

flags.DEFINE_string("target", "", "A config.json with the sizes to get, or a folder with one.")
flags.DEFINE_integer("hidden_size", 0, "Residual channels to keep.", 0)
flags.DEFINE_integer("intermediate_size", 0, "FFN channels to keep in each layer.", 0)
flags.DEFINE_integer("num_hidden_layers", 0, "Layers to keep.", 0)
flags.DEFINE_integer("num_attention_heads", 0, "Heads to keep; key-value heads in proportion.", 0)
flags.DEFINE_string("layers", "", "ends (the default), importance, or a list such as 0-3,7.")
flags.DEFINE_enum("criterion", "", ["", *magnitude.CRITERIA, *RUNNING], "Default: l2, or --scores.")
flags.DEFINE_string("scores", "", "Files of tools.importance, with commas between them.")
flags.DEFINE_string("save_scores", "", "Write the scores by --criterion to this file.")
flags.DEFINE_string("text", "", "Text to measure on: files, as globs with commas between them.")
flags.DEFINE_integer("sequences", 128, "Of the text: how many sequences.", 1)
flags.DEFINE_integer("seq_len", 0, "Tokens in each; 0: the model's context, at most 2048.", 0)
flags.DEFINE_integer("seed", 0, "Of random, and of what is drawn from the text.", 0)


def main():
    running = FLAGS.criterion in RUNNING
    _check_flags(running)
    settings = {f.name: FLAGS[f.name].value for f in dataclasses.fields(Inherit)}
    before = surgery.opened()
    adapters.refuse(before, "inherit")
    given = []
    if running:
        settings["criterion"] = ""
        # a stand-in, so that whatever can be refused is before the model runs
        plan = inheritance.planned(before, **settings | {"criterion": "first"})
        judged = [k for k in plan.scored if not any(k in one.arrays for one in plan.given)]
        _check_running(judged)
        if FLAGS.dry_run:
            say(f"would measure {' and '.join(judged)} by {FLAGS.criterion} on {FLAGS.text}")
            say(f"{human(before.parameters)} parameters -> {human(depth.parameters(plan.after))}")
            return None
        from maxlite.state.ready import ready_model

        ready = ready_model(hub.model(), dtype="float32")  # scores are small differences
        given = [_measured(ready, {kind: counts(plan.after)[kind] for kind in judged})]
        del ready
    with bytes_bar("reading weights") as progress:
        plan = inheritance.planned(before, **settings, given=given, progress=progress)
        shares = plan.shares()
    after = plan.result(shares)
    history = metadata.noted(after.metadata, "inherit", _told(running))
    after = dataclasses.replace(after, metadata=history)
    if FLAGS.save_scores and not FLAGS.dry_run:
        (given[0] if given else plan.measured).write(Path(FLAGS.save_scores).expanduser())
        say(f"wrote {FLAGS.save_scores}")
    surgery.finish(before, after)
    return _figures(before, plan, shares)


def _measured(ready, budget):
    """Scores by a criterion for which the model must run; a learned mask keeps to the budget."""
    from maxlite.importance import text as text_lib
    from maxlite.importance.learned import Learning
    from maxlite.importance.measure import measure

    text = text_lib.read(
        [part for part in FLAGS.text.split(",") if part],
        ready.tokenizer,
        sequences=FLAGS.sequences,
        seq_len=FLAGS.seq_len or min(ready.architecture.max_position_embeddings, 2048),
        seed=FLAGS.seed,
    )
    learning = Learning(budget, seed=FLAGS.seed) if FLAGS.criterion == "learned" else None
    return measure(ready, FLAGS.criterion, text, learning=learning)


def _check_running(judged):
    """Refuses a criterion that says nothing of what must be chosen, or has nothing to choose."""
    if not judged:
        raise InputError(
            f"nothing is chosen by --criterion={FLAGS.criterion}: leave it out, or give sizes to"
            " shrink (layers too only with --layers=importance)"
        )
    missing = [kind for kind in judged if kind not in RUNNING[FLAGS.criterion]]
    if missing:
        raise InputError(
            f"--criterion={FLAGS.criterion} says nothing of {' and '.join(missing)}, of which fewer"
            " shall stay: choose another, or give --scores of these"
        )


def _check_flags(running):
    """Refuses flags that contradict each other."""
    if running and not FLAGS.text:
        raise InputError(f"--criterion={FLAGS.criterion} is measured on text: give --text")
    if FLAGS.text and not running:
        raise InputError(f"--text is for {', '.join(RUNNING)}: give one as --criterion")
    if cli.file_of("save_scores") and FLAGS.scores and not FLAGS.criterion:
        raise InputError("--save_scores writes what --criterion gives, and there is none")


def _told(running):
    """The settings that maxlite.json tells of."""
    names = [f.name for f in dataclasses.fields(Inherit)]
    names += ["text", "sequences", "seq_len"] if running else []
    return {name: FLAGS[name].value for name in names if FLAGS[name].value}


def _figures(before, plan, shares):
    has, wanted = counts(before.architecture), counts(plan.after)
    kept = {
        kind: {
            "kept": wanted[kind],
            "of": has[kind],
            "criterion": plan.scored.get(kind),
            "share": shares.get(kind),
        }
        for kind in has
    }
    return {
        "parameters_before": before.parameters,
        "parameters": depth.parameters(plan.after),
        "layers": plan.layers,
        "kept": kept,
        "out": FLAGS.out,
    }


if __name__ == "__main__":
    cli.run(main)
