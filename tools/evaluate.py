"""Loss, bits per byte and tokens per character of a model on text files.

Example: python -m tools.evaluate --model=FOLDER --text='korean/*.txt,english.jsonl'

Bits per byte can be compared between models with different tokenizers, the loss a token cannot.
--before=FILE shows them beside those of an earlier evaluation of the same files, its --json.
"""

import json
from pathlib import Path

from absl import flags

from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string(
    "text",
    "",
    "Files, as globs with commas between them; also folders that tokenize_corpus made with the "
    "model's tokenizer.",
)
flags.DEFINE_string("field", "text", "The text field of .jsonl and .parquet files.")
flags.DEFINE_enum("txt", "line", ["line", "file"], "What a document of a .txt file is.")
flags.DEFINE_integer("documents", 0, "At most so many documents of each file; 0 for all.", 0)
flags.DEFINE_float(
    "held_out", 0.0, "Only what training with this data.held_out leaves out; 0: all.", 0.0, 0.5
)
flags.DEFINE_string("before", "", "The --json of an evaluation to compare with.")
flags.DEFINE_integer("seq_len", 0, "Tokens a window; 0: the model's context, at most 2048.", 0)
flags.DEFINE_integer("stride", 0, "How far windows advance; 0 for half a window.", 0)
flags.DEFINE_integer("batch_size", 8, "Windows at a time, for each device.", 1)
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")

_TOTAL = "total"
_COMPARED = ("bits_per_byte", "bytes", "documents")


def main():
    cli.require("model", "text")
    from maxlite.config import Data, Source
    from maxlite.data.cache import tokenize
    from maxlite.data.sources import expand
    from maxlite.data.tokens import names_cache
    from maxlite.data.view import View, split
    from maxlite.score import Scorer
    from maxlite.state.ready import ready_model

    before = _before()
    globs = [g for g in FLAGS.text.split(",") if g]
    found = ([g] if names_cache(g) else expand(Source(glob=g)) for g in globs)
    paths = dict.fromkeys(str(path) for several in found for path in several)
    ready = ready_model(hub.model(), dtype=FLAGS.dtype, weights=not FLAGS.dry_run)
    context = ready.architecture.max_position_embeddings
    window = FLAGS.seq_len or min(context, 2048)
    if window > context or FLAGS.stride > window:
        raise InputError(
            f"--seq_len={window} and --stride={FLAGS.stride} do not fit: seq_len is at most the "
            f"model's context of {context}, stride at most seq_len"
        )
    tokenizer = ready.tokenizer
    data = Data(txt=FLAGS.txt)
    views = {}
    for path in paths:
        cache = tokenize(Source(glob=path, field=FLAGS.field), tokenizer, data)
        views[path] = View(cache, tokenizer.bos, None)
        if FLAGS.held_out:
            views[path] = split(cache, tokenizer.bos, None, FLAGS.held_out)[1]
    if FLAGS.dry_run:
        for path, view in views.items():
            say(f"would score {path}: {len(view)} documents, {view.tokens} tokens")
        return None
    if before and (before.keys() - {_TOTAL}) != views.keys():
        raise InputError(
            f"--before={FLAGS.before} is of {', '.join(sorted(before.keys() - {_TOTAL}))}, and not"
            f" of {', '.join(views)}; evaluate the same files"
        )
    files, total = [], None
    were = f"{'before':>10}" if before else ""
    print(f"{were}{'bits/byte':>10} {'loss':>8} {'tokens':>10} {'tokens/char':>12}  file")
    with ready.on_mesh():
        rows = FLAGS.batch_size * ready.mesh.size
        scorer = Scorer(ready.bind, ready.mesh, rows, window, FLAGS.stride)
        for path, view in views.items():
            score = scorer(ready.params, {}, view, Path(path).name, FLAGS.documents)
            total = score if total is None else total + score
            files.append({"name": path, **score.figures()})
            _print(score, path, before)
    if len(files) > 1:
        _print(total, _TOTAL, before)
    return {"files": files, "total": total.figures()}


def _before() -> dict[str, dict[str, float]]:
    """The figures of --before: file names, and `_TOTAL`, to what their JSON has."""
    if not FLAGS.before:
        return {}
    try:
        told = json.loads(Path(FLAGS.before).expanduser().read_bytes())
        figures = {file["name"]: file for file in told["files"]} | {_TOTAL: told["total"]}
        return {name: {key: float(f[key]) for key in _COMPARED} for name, f in figures.items()}
    except FileNotFoundError as e:
        raise InputError(f"there is no file --before={FLAGS.before}") from e
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"--before={FLAGS.before} is not what --json writes here: {e!r}") from e


def _print(score, name, before):
    if before:
        was = before[name]
        if (score.bytes, score.documents) != (was["bytes"], was["documents"]):
            raise InputError(
                f"{name} has {score.documents} documents of {score.bytes} bytes now, and had"
                f" {was['documents']:.0f} of {was['bytes']:.0f}; evaluate the same text again"
            )
        print(f"{was['bits_per_byte']:>10.4f}", end="")
    print(
        f"{score.bits_per_byte:>10.4f} {score.loss:>8.4f} {score.scored:>10} "
        f"{score.tokens_per_char:>12.4f}  {name}"
    )


if __name__ == "__main__":
    cli.run(main)
