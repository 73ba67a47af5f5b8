"""Measures how much each layer, head group, FFN channel and residual channel of a model matters.

Example: python -m tools.importance --model=FOLDER --criterion=taylor --text='korean/*.txt'
         --out=scores.safetensors --plot=scores.html

The scores are for tools.inherit. Criteria: block_influence and leave_one_out (layers), activation
(groups, channels, residual), taylor (all), and learned: a mask trained with fixed weights under a
hard budget, which --target or --budget_... say.
"""

import time
from pathlib import Path

import numpy as np
from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string("criterion", "taylor", "How units are judged; see above.")
flags.DEFINE_string("text", "", "Files, as globs with commas between them.")
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_integer("sequences", 128, "How many sequences to draw from the text.", 1)
flags.DEFINE_integer("seq_len", 0, "Tokens a sequence; 0: the model's context, at most 2048.", 0)
flags.DEFINE_integer("batch_size", 8, "Sequences at a time; of a learned mask, in a step.", 1)
flags.DEFINE_integer("seed", 0, "Of the draw, and of what a learned mask tries.", 0)
flags.DEFINE_string("out", "", "The file of scores to write, .safetensors.")
flags.DEFINE_string("plot", "", "A page of charts to write, .html.")
flags.DEFINE_string("target", "", "learned: the config.json (or its folder) to shrink to.")
flags.DEFINE_integer("budget_layers", 0, "learned: so many layers stay; 0: all, unjudged.", 0)
flags.DEFINE_integer("budget_groups", 0, "learned: so many groups of each layer stay.", 0)
flags.DEFINE_integer("budget_channels", 0, "learned: so many channels of each layer stay.", 0)
flags.DEFINE_integer("budget_residual", 0, "learned: so many residual channels stay.", 0)
flags.DEFINE_integer("steps", 300, "learned: of training.", 1)
flags.DEFINE_float("learning_rate", 0.1, "learned: how far a step moves a score.", 0.0)
# Scores are small differences: bfloat16 would blur them.
flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the computation.")


def main():
    cli.require("model", "text", "out")
    out, plot = cli.file_of("out", ".safetensors"), cli.file_of("plot", ".html")
    from maxlite.config import Source
    from maxlite.data.sources import expand
    from maxlite.importance import text as text_lib
    from maxlite.importance.measure import check, measure
    from maxlite.state.ready import ready_model

    globs = [g for g in FLAGS.text.split(",") if g]
    for one in globs:
        expand(Source(glob=one))  # before the model is loaded
    ready = ready_model(hub.model(), dtype=FLAGS.dtype, weights=not FLAGS.dry_run)
    learning = _learning(ready)
    seq_len = FLAGS.seq_len or min(ready.architecture.max_position_embeddings, 2048)
    check(ready, FLAGS.criterion, seq_len, learning)
    text = text_lib.read(
        globs,
        ready.tokenizer,
        sequences=FLAGS.sequences,
        seq_len=seq_len,
        seed=FLAGS.seed,
        field=FLAGS.field,
        txt=FLAGS.txt,
    )
    if FLAGS.dry_run:
        say(f"would measure {ready.where} by {FLAGS.criterion} on {text.said}")
        return None
    began = time.monotonic()
    scores = measure(ready, FLAGS.criterion, text, batch_size=FLAGS.batch_size, learning=learning)
    seconds = time.monotonic() - began
    scores.write(out)
    if plot:
        from maxlite.report.importance import page

        outputs.write_text(plot, page(scores, ready.where))
    return _figures(scores, seconds)


def _learning(ready):
    """How to learn a mask, if that is asked for."""
    from maxlite.hf import config_json, json_values
    from maxlite.importance.learned import Learning
    from maxlite.surgery.scores import shapes

    budget = {kind: FLAGS[f"budget_{kind}"].value for kind in shapes(ready.architecture)}
    budget = {kind: count for kind, count in budget.items() if count}
    if FLAGS.target:
        if budget:
            raise InputError("--target says what stays, and so does --budget_...; give one")
        file = Path(FLAGS.target).expanduser()
        file = file / "config.json" if file.is_dir() else file
        if not file.is_file():
            raise InputError(f"--target={FLAGS.target} names no config.json")
        target = config_json.architecture(
            json_values.parse(file.read_bytes(), str(file)), str(file)
        )
        wanted, there = shapes(target), shapes(ready.architecture)
        budget = {k: shape[-1] for k, shape in wanted.items() if shape[-1] != there[k][-1]}
        if not budget:
            raise InputError(
                f"{file} has the shape of {ready.where}: there is nothing to leave out"
            )
    if not budget and FLAGS.criterion != "learned":
        return None
    return Learning(budget, FLAGS.steps, FLAGS.learning_rate, FLAGS.seed)


def _figures(scores, seconds):
    """Prints a line for each kind of unit; the figures for JSON."""
    figures = {"criterion": scores.criterion, "signature": scores.signature, "text": scores.text}
    figures |= {"seconds": seconds, "scores": {}}
    print(f"{'units':<10} {'count':>9} {'least':>12} {'median':>12} {'most':>12}")
    for kind, array in scores.arrays.items():
        least, median, most = np.quantile(array, (0, 0.5, 1)).tolist()
        print(f"{kind:<10} {array.size:>9} {least:>12.4g} {median:>12.4g} {most:>12.4g}")
        figures["scores"][kind] = {
            "count": array.size, "least": least, "median": median, "most": most,
        }  # fmt: skip
    if scores.layers is not None:
        figures["layers"] = scores.layers.tolist()
        print("layers: " + ", ".join(f"{value:.4g}" for value in figures["layers"]))
    return figures


if __name__ == "__main__":
    cli.run(main)
