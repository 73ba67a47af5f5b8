"""Runs tasks of lm-evaluation-harness on a model folder or a run, without an export.

Example: python -m tools.lm_eval --model=runs/korean --tasks=kobest,haerae --num_fewshot=5

It needs `pip install -e '.[eval]'`. Tasks are those of the harness (`lm_eval ls tasks` lists them)
and YAML files: by path, or by name from the folders of --include_path. Most read a data set from
the hub, which must be reachable once; from then on it is in Hugging Face's cache.
"""

import contextlib
import difflib
import json
import logging
from pathlib import Path

from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_list("tasks", [], "Names of tasks, groups or YAML files, with commas between them.")
flags.DEFINE_list("include_path", [], "Folders with tasks of your own.")
flags.DEFINE_integer("num_fewshot", -1, "Examples before each question; -1: as the task says.", -1)
flags.DEFINE_integer("limit", 0, "Only so many questions of each task, to try it; 0: all.", 0)
flags.DEFINE_integer("max_new_tokens", 0, "Of generated answers; 0: as the task says.", 0)
flags.DEFINE_integer("batch_size", 8, "Texts generated at a time, for each device.", 1)
flags.DEFINE_integer("bootstrap", 1000, "Samples that a standard error is estimated from.", 0)
flags.DEFINE_bool("bos", True, "Put BOS before each text, if the tokenizer has one.")
flags.DEFINE_string("samples", "", "A .jsonl file for each question, what was asked and answered.")
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")


def main():
    cli.require("model", "tasks")
    samples = cli.file_of("samples", ".jsonl")
    try:
        from lm_eval import evaluator
        from lm_eval.tasks import TaskManager
        from lm_eval.utils import handle_non_serializable, make_table
    except ImportError as e:
        raise InputError(
            f"lm-evaluation-harness is not here ({e}); pip install -e '.[eval]'"
        ) from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # or it tells of every default
    for folder in FLAGS.include_path:
        if not Path(folder).expanduser().is_dir():
            raise InputError(f"--include_path={folder} is no folder")
    folders = [str(Path(folder).expanduser()) for folder in FLAGS.include_path]
    manager = TaskManager(include_path=folders or None)
    with _reach() as lacking:
        tasks = _tasks(manager, lacking)
    from maxlite.harness import Harnessed
    from maxlite.state.ready import ready_model

    ready = ready_model(hub.model(), FLAGS.dtype, weights=not FLAGS.dry_run)
    model = Harnessed(ready, FLAGS.batch_size, bos=FLAGS.bos)
    if FLAGS.dry_run:
        return None
    found = evaluator.simple_evaluate(
        model=model,
        tasks=tasks,
        task_manager=manager,
        num_fewshot=None if FLAGS.num_fewshot < 0 else FLAGS.num_fewshot,
        limit=FLAGS.limit or None,
        gen_kwargs={"max_gen_toks": FLAGS.max_new_tokens} if FLAGS.max_new_tokens else None,
        bootstrap_iters=FLAGS.bootstrap,
        log_samples=bool(samples),
    )
    print(make_table(found))
    if "groups" in found:
        print(make_table(found, "groups"))
    if samples:
        lines = (
            json.dumps({"task": task} | one, ensure_ascii=False, default=handle_non_serializable)
            for task, several in found["samples"].items()
            for one in several
        )
        outputs.write_text(samples, "".join(f"{line}\n" for line in lines))
    kept = ("results", "groups", "group_subtasks", "configs", "versions", "n-shot", "n-samples")
    figures = {"model": ready.where, "step": ready.step, "dtype": str(ready.dtype)}
    figures |= {key: found[key] for key in kept if key in found}
    return json.loads(json.dumps(figures, default=handle_non_serializable))


@contextlib.contextmanager
def _reach():
    """Yields why the hub cannot be reached from here, "" if it can; then the cache alone counts.

    Its libraries would knock again and again, for half a minute.
    """
    from huggingface_hub import constants, get_session

    before, why = constants.HF_HUB_OFFLINE, ""
    if before:
        why = "HF_HUB_OFFLINE is set"
    else:
        try:
            get_session().head(constants.ENDPOINT, timeout=10)
        except Exception as e:  # of whichever library it is, they are called ConnectError and such
            why = str(e) if type(e).__name__.startswith("Connect") else ""
    constants.HF_HUB_OFFLINE = before or bool(why)
    try:
        yield why
    finally:
        constants.HF_HUB_OFFLINE = before


def _tasks(manager, lacking):
    """What --tasks names, with its data: groups and tasks that are inside no other group.

    Args:
      manager: the harness's.
      lacking: why the hub cannot be reached; "" if it can.
    """
    try:
        loaded = manager.load(list(FLAGS.tasks))
    except KeyError as e:
        unknown = [name for name in FLAGS.tasks if name not in manager.all_tasks]
        near = difflib.get_close_matches(unknown[0], manager.all_tasks) if unknown else []
        hint = f"; is {' or '.join(near)} meant?" if near else "; --include_path names folders"
        raise InputError(f"{e.args[0]}{hint}") from None
    except Exception as e:  # of datasets, huggingface_hub, evaluate, and what reads the YAML
        told = " ".join(str(e).split()).rstrip(".")
        if _of_network(e):
            raise InputError(
                f"--tasks={','.join(FLAGS.tasks)} needs a download, and the hub cannot be reached "
                f"from here ({lacking or told}); run it once where it can, and copy Hugging Face's "
                "cache ($HF_HOME) from there"
            ) from None
        raise InputError(f"--tasks={','.join(FLAGS.tasks)} cannot be loaded: {told}") from None
    inside = {child for children in loaded["group_map"].values() for child in children}
    names = list(loaded["tasks"])
    many = f"{len(names)} tasks" if len(names) > 1 else "one task"
    say(f"{many}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}")
    several = {**loaded["groups"], **loaded["tasks"]}
    return [one for name, one in several.items() if name not in inside]


def _of_network(error):
    """Whether the hub was out of reach, in words of whichever library it was; not what it said."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    kinds = (ConnectionError, LocalEntryNotFoundError, TimeoutError)
    while error and not (isinstance(error, HfHubHTTPError) and error.response is not None):
        if isinstance(error, kinds) or type(error).__module__.startswith(("httpx", "requests")):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    cli.run(main)
