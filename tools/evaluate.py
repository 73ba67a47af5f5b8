"""Judges a model: bits per byte by language and domain, tokens per character, texts.

Example: python -m tools.evaluate --model=FOLDER --text='ko=korean/*.txt,en/news=news.jsonl'

A NAME is a LANGUAGE or LANGUAGE/DOMAIN, under which files are counted together.
Without --text a run is judged on what it evaluates itself.

Bits per byte can be compared between models with different tokenizers, the loss a token cannot.
--before=MODEL judges another model as well and shows both in one table, gain beside forgetting;
--before=FILE takes the other's figures from what --json wrote. --prompt has both go on with a text,
greedily, side by side.
"""

import shutil
from pathlib import Path

from absl import flags

from maxlite import storage
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string(
    "text",
    "",
    "[NAME=]GLOB with commas between them; also folders that tokenize_corpus made with the model's "
    "tokenizer. Empty: what the run evaluates itself.",
)
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_integer("documents", 0, "At most so many documents of each file; 0 for all.", 0)
flags.DEFINE_float(
    "held_out", 0.0, "Only what training with this data.held_out leaves out; 0: all.", 0.0, 0.5
)
flags.DEFINE_string("before", "", "A model to compare with, or the --json of its evaluation.")
flags.DEFINE_multi_string("prompt", [], "A text to go on with; may be given several times.")
flags.DEFINE_string("prompts", "", "A file of such texts: .txt, a line each, or .jsonl.")
flags.DEFINE_integer("max_new_tokens", 64, "At most so many tokens after each prompt.", 1)
flags.DEFINE_integer("seq_len", 0, "Tokens a window; 0: the model's context, at most 2048.", 0)
flags.DEFINE_integer("stride", 0, "How far windows advance; 0 for half a window.", 0)
flags.DEFINE_integer("batch_size", 8, "Windows at a time, for each device.", 1)
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")

cli.take_addresses("before")


def main():
    cli.require("model")
    from maxlite.data.sets import named_parts, rows
    from maxlite.evaluate import Settings, evaluated, fitting, views
    from maxlite.hf.folder import resolve
    from maxlite.report import evaluated as report
    from maxlite.state.ready import ready_model

    models = [hub.model()]
    earlier = None
    if Path(FLAGS.before).expanduser().is_file() or FLAGS.before.endswith(".json"):
        earlier = report.read(Path(FLAGS.before).expanduser())
    elif FLAGS.before:
        models.insert(0, str(resolve(FLAGS.before)))
    parts = named_parts(FLAGS.text, FLAGS.field, FLAGS.txt, FLAGS.held_out) or _own(models[-1])
    prompts = _prompts()
    window = fitting(models, FLAGS.seq_len, FLAGS.stride)
    if earlier:
        report.check(earlier, list(rows(parts)), window, prompts)
    if FLAGS.dry_run:
        for model in models:
            ready = ready_model(model, FLAGS.dtype, weights=False)
            for part, view in zip(parts, views(ready, parts), strict=True):
                sizes = f"{len(view)} documents, {view.tokens} tokens"
                say(f"would score {part.source.name} with {model}: {sizes}")
        return None
    settings = Settings(
        window, FLAGS.stride, FLAGS.documents, FLAGS.batch_size, FLAGS.max_new_tokens
    )
    # One after the other, so that one model at a time needs room.
    told = [
        evaluated(ready_model(model, FLAGS.dtype), parts, prompts, settings) for model in models
    ]
    figures = told[-1]
    if FLAGS.before:
        figures = report.compared(earlier or told[0], figures)
    print(report.table(figures))
    if prompts:
        print(f"\n{report.side_by_side(figures, shutil.get_terminal_size((100, 24)).columns)}")
    return figures


def _own(model):
    """What a run evaluates itself."""
    from maxlite.data.sets import run_parts
    from maxlite.state.run import is_run

    if not is_run(run := storage.place(model)):
        raise InputError(f"--text must be given: {model} is no run with text that it evaluates")
    if FLAGS.held_out:
        raise InputError("--held_out is for --text; a run knows what it holds out")
    return run_parts(run)


def _prompts():
    from maxlite.data.sources import documents

    if not FLAGS.prompts:
        return FLAGS.prompt
    given = storage.place(FLAGS.prompts)
    if not given.is_file():
        raise InputError(f"there is no file --prompts={FLAGS.prompts}")
    found = [*FLAGS.prompt, *documents(given, FLAGS.field)]
    if not found:
        raise InputError(f"--prompts={FLAGS.prompts} holds no text")
    return found


if __name__ == "__main__":
    cli.run(main)
