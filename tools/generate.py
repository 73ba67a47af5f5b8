"""Generates text from a model folder or a run.

Example: python -m tools.generate --model=FOLDER --prompt="Once upon a time" --max_new_tokens=100

The text (prompt and what follows it) goes to stdout, everything else to stderr.
"""

import re
import sys

from absl import flags

from maxlite.console import say
from tools import cli

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string("prompt", "", "What the text begins with; empty: from BOS.")
flags.DEFINE_integer("max_new_tokens", 256, "At most so many tokens after the prompt.", 1)
flags.DEFINE_float("temperature", 0.0, "0 is greedy; 1 samples as the model thinks.", 0.0)
flags.DEFINE_float(
    "top_p", 1.0, "Sample from the likeliest tokens that reach this share.", 0.0, 1.0
)
flags.DEFINE_integer("seed", 0, "Of the sampling.")
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")


def main():
    cli.require("model")
    from maxlite.generate import Generator, check_sampling, prompt_ids, stop_ids
    from maxlite.state.ready import ready_model

    check_sampling(FLAGS.temperature, FLAGS.top_p)
    ready = ready_model(FLAGS.model, dtype=FLAGS.dtype)
    prompt = prompt_ids(ready.tokenizer, FLAGS.prompt)
    room = ready.architecture.max_position_embeddings - len(prompt)
    count = min(FLAGS.max_new_tokens, room)
    if FLAGS["max_new_tokens"].using_default_value is False:
        count = FLAGS.max_new_tokens
    say(f"{ready.where}: {len(prompt)} tokens of prompt, at most {count} new ones")
    if FLAGS.dry_run:
        return None
    with ready.on_mesh():
        generator = Generator(ready.bind, ready.architecture, ready.tokenizer.rows, ready.dtype)
        tokens = generator(
            ready.params,
            {},
            prompt,
            count,
            temperature=FLAGS.temperature,
            top_p=FLAGS.top_p,
            seed=FLAGS.seed,
            stop=stop_ids(ready.tokenizer, ready.source),
        )
        new, text = [], ready.tokenizer.decode(prompt, skip_special=True)
        sys.stdout.write(text)
        for token in tokens:
            new.append(token)
            if not _BYTE.fullmatch(ready.tokenizer.piece(token)):
                text = _print_more(text, ready.tokenizer.decode([*prompt, *new], skip_special=True))
    whole = ready.tokenizer.decode([*prompt, *new], skip_special=True)
    sys.stdout.write(whole[len(text) :] + "\n")
    return {"text": whole, "prompt_tokens": len(prompt), "new_tokens": len(new), "ids": new}


# A run of byte pieces is decoded as a whole: another one can change what the run says so far.
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def _print_more(printed, text):
    """Prints what is new, unless it ends inside a character that is still incomplete."""
    if text.endswith("\ufffd") or not text.startswith(printed):
        return printed
    sys.stdout.write(text[len(printed) :])
    sys.stdout.flush()
    return text


if __name__ == "__main__":
    cli.run(main)
