"""Generates text from a model folder or a run.

Example: python -m tools.generate --model=FOLDER --prompt="Once upon a time" --max_new_tokens=100

The text (prompt and what follows it) goes to stdout, everything else to stderr. Several --prompt
are continued together, with an empty line between their texts. With --count, many texts of each go
to a file that training reads as it is: --count=3000 --temperature=1 --out=samples.jsonl
"""

import json
import re
import sys

from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_multi_string("prompt", [""], "What a text begins with; empty: from BOS.")
flags.DEFINE_integer("max_new_tokens", 256, "At most so many tokens after the prompt.", 1)
flags.DEFINE_float("temperature", 0.0, "0 is greedy; 1 samples as the model thinks.", 0.0)
flags.DEFINE_float(
    "top_p", 1.0, "Sample from the likeliest tokens that reach this share.", 0.0, 1.0
)
flags.DEFINE_integer("seed", 0, "Of the sampling.")
flags.DEFINE_integer("count", 1, "Texts of each prompt; text i is sampled with --seed + i.", 1)
flags.DEFINE_integer("batch_size", 64, "With several texts: so many at a time.", 1)
flags.DEFINE_string("out", "", 'With --count: a file to write, {"text": ...} a line.')
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")


def main():
    cli.require("model")
    target = _target()
    from maxlite.generate import Generator, check_sampling, prompt_ids, stop_ids
    from maxlite.state.ready import ready_model

    check_sampling(FLAGS.temperature, FLAGS.top_p)
    ready = ready_model(hub.model(), dtype=FLAGS.dtype)
    prompts = [prompt_ids(ready.tokenizer, prompt) for prompt in FLAGS.prompt]
    given = max(map(len, prompts))
    room = ready.architecture.max_position_embeddings - given
    count = min(FLAGS.max_new_tokens, room)
    if FLAGS["max_new_tokens"].using_default_value is False:
        count = FLAGS.max_new_tokens
    several = f"{len(prompts)} prompts of up to {given} tokens"
    told = several if len(prompts) > 1 else f"{given} tokens of prompt"
    say(f"{ready.where}: {told}, at most {count} new ones")
    if FLAGS.dry_run:
        return None
    with ready.on_mesh():
        generator = Generator(ready.bind, ready.architecture, ready.tokenizer.rows, ready.dtype)
        settings = {
            "temperature": FLAGS.temperature,
            "top_p": FLAGS.top_p,
            "stop": stop_ids(ready.tokenizer, ready.source),
        }
        if target or len(prompts) > 1:
            found = _many(generator, ready, prompts, count, settings)
            return _written(found, prompts, target) if target else _printed(found)
        (prompt,) = prompts
        tokens = generator(ready.params, {}, prompt, count, seed=FLAGS.seed, **settings)
        new, text = [], ready.tokenizer.decode(prompt, skip_special=True)
        sys.stdout.write(text)
        for token in tokens:
            new.append(token)
            if not _BYTE.fullmatch(ready.tokenizer.piece(token)):
                text = _print_more(text, ready.tokenizer.decode([*prompt, *new], skip_special=True))
    whole = ready.tokenizer.decode([*prompt, *new], skip_special=True)
    sys.stdout.write(whole[len(text) :] + "\n")
    return _figures(whole, prompt, new)


def _figures(text, prompt, new):
    return {"text": text, "prompt_tokens": len(prompt), "new_tokens": len(new), "ids": new}


def _target():
    """The file of --out, after what can be refused about it and --count."""
    if FLAGS.count > 1 and not FLAGS.out:
        raise InputError(f"--count={FLAGS.count} needs --out, a .jsonl file for the texts")
    if FLAGS.count > 1 and FLAGS.temperature == 0:
        raise InputError(f"--count={FLAGS.count} greedy texts are all the same: set --temperature")
    return cli.file_of("out", ".jsonl")


def _many(generator, ready, prompts, count, settings):
    """The figures of --count texts of each prompt, made a batch at a time."""
    from tqdm import tqdm

    asked = [prompt for prompt in prompts for _ in range(FLAGS.count)]
    size, found = min(FLAGS.batch_size, len(asked)), []
    with tqdm(total=len(asked), unit=" texts", desc="sampling", delay=1) as bar:
        for start in range(0, len(asked), size):
            # the last batch is filled up, or another size would be compiled for it
            some = [asked[i % len(asked)] for i in range(start, start + size)]
            seeds = [FLAGS.seed + i for i in range(start, start + size)]
            several = generator.several(ready.params, {}, some, count, seeds=seeds, **settings)
            for prompt, new in zip(asked[start : start + size], several, strict=False):
                text = ready.tokenizer.decode([*prompt, *new], skip_special=True)
                found.append(_figures(text, prompt, new))
                bar.update()
    return found


def _written(found, prompts, target):
    lines = (json.dumps({"text": one["text"]}, ensure_ascii=False) + "\n" for one in found)
    outputs.write_text(target, "".join(lines))
    new = sum(one["new_tokens"] for one in found)
    return {"texts": len(found), "prompt_tokens": sum(map(len, prompts)), "new_tokens": new}


def _printed(found):
    print("\n\n".join(one["text"] for one in found))
    return {"texts": found}


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
