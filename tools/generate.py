"""Generates text from a model folder or a run.

Example: python -m tools.generate --model=FOLDER --prompt="Once upon a time" --max_new_tokens=100

The text (prompt and what follows it) goes to stdout, everything else to stderr. With --count, many
texts go to a file that training reads as it is: --count=3000 --temperature=1 --out=samples.jsonl
"""

import json
import re
import sys
from pathlib import Path

from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string("prompt", "", "What the text begins with; empty: from BOS.")
flags.DEFINE_integer("max_new_tokens", 256, "At most so many tokens after the prompt.", 1)
flags.DEFINE_float("temperature", 0.0, "0 is greedy; 1 samples as the model thinks.", 0.0)
flags.DEFINE_float(
    "top_p", 1.0, "Sample from the likeliest tokens that reach this share.", 0.0, 1.0
)
flags.DEFINE_integer("seed", 0, "Of the sampling.")
flags.DEFINE_integer("count", 1, "How many texts; text i is sampled with the seed --seed + i.", 1)
flags.DEFINE_integer("batch_size", 64, "With --count: texts at a time.", 1)
flags.DEFINE_string("out", "", 'With --count: a file to write, {"text": ...} a line.')
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")


def main():
    cli.require("model")
    target = _target()
    from maxlite.generate import Generator, check_sampling, prompt_ids, stop_ids
    from maxlite.state.ready import ready_model

    check_sampling(FLAGS.temperature, FLAGS.top_p)
    ready = ready_model(hub.model(), dtype=FLAGS.dtype)
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
        settings = {
            "temperature": FLAGS.temperature,
            "top_p": FLAGS.top_p,
            "stop": stop_ids(ready.tokenizer, ready.source),
        }
        if target:
            return _many(generator, ready, prompt, count, target, settings)
        tokens = generator(ready.params, {}, prompt, count, seed=FLAGS.seed, **settings)
        new, text = [], ready.tokenizer.decode(prompt, skip_special=True)
        sys.stdout.write(text)
        for token in tokens:
            new.append(token)
            if not _BYTE.fullmatch(ready.tokenizer.piece(token)):
                text = _print_more(text, ready.tokenizer.decode([*prompt, *new], skip_special=True))
    whole = ready.tokenizer.decode([*prompt, *new], skip_special=True)
    sys.stdout.write(whole[len(text) :] + "\n")
    return {"text": whole, "prompt_tokens": len(prompt), "new_tokens": len(new), "ids": new}


def _target():
    """The file of --out, after what can be refused about it and --count."""
    if FLAGS.count > 1 and not FLAGS.out:
        raise InputError(f"--count={FLAGS.count} needs --out, a .jsonl file for the texts")
    if FLAGS.count > 1 and FLAGS.temperature == 0:
        raise InputError(f"--count={FLAGS.count} greedy texts are all the same: set --temperature")
    if not FLAGS.out:
        return None
    target = Path(FLAGS.out).expanduser()
    if target.suffix != ".jsonl" or not target.parent.is_dir():
        raise InputError(f"--out={FLAGS.out} must be a .jsonl file in a folder that exists")
    cli.check_out(target)
    return target


def _many(generator, ready, prompt, count, target, settings):
    """Writes --count texts, a batch at a time."""
    from tqdm import tqdm

    lines, tokens = [], 0
    with tqdm(total=FLAGS.count, unit=" texts", desc=f"sampling {target}") as bar:
        for start in range(0, FLAGS.count, FLAGS.batch_size):
            # the last batch is filled up, or another size would be compiled for it
            seeds = [FLAGS.seed + start + i for i in range(min(FLAGS.batch_size, FLAGS.count))]
            several = generator.several(ready.params, {}, prompt, count, seeds=seeds, **settings)
            for new in several[: FLAGS.count - start]:
                text = ready.tokenizer.decode([*prompt, *new], skip_special=True)
                lines.append(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                tokens += len(new)
                bar.update()
    outputs.write_text(target, "".join(lines))
    return {"texts": len(lines), "prompt_tokens": len(prompt), "new_tokens": tokens}


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
