"""The story of a model, read from a recipe's folder or a run: the figures of tools.report.

name, path, kind ("recipe" or "run"), status, version
stages       of `maxlite.report.stages`: the trainings that led to the model, in order
others       names of stages that trained for something else; of a run, how many are not here
evaluations  [{"name", "texts": [{"name", "bits_per_byte", "tokens_per_char", "bytes"}],
             "samples": [{"prompt", "text"}]}]: what tools.evaluate found, in order; the files of a
             source are one text
context      tokens of the model's context
funnels      [{"name", "figures"}] of cleanings, as clean_corpus writes them
rows         of `maxlite.report.rows`, or {"missing": why}
texts        [{"name", "prompt", "texts"}] of what tools.generate wrote
steps        [{"name", "command", "seconds", "done"}] of a recipe
inputs       what its steps read, to fingerprints
config       of a run: the config file that makes it again
vocabulary   what maxlite.json says of it
"""

from typing import Any

from maxlite import storage
from maxlite.errors import InputError
from maxlite.hf import metadata
from maxlite.hf.folder import CONFIG, LazyModel
from maxlite.lineage import runs
from maxlite.report import rows, stages
from maxlite.report.again import config_file
from maxlite.report.recipes import RecipeFolder, has_trained
from maxlite.state import origin
from maxlite.state.host import began_with, open_lazy, run_model
from maxlite.state.run import RunFolder, is_run
from maxlite.storage import Place

Figures = dict[str, Any]


def of_run(name: str) -> Figures:
    """The figures of a run and of the runs before it that are still here.

    Raises:
      InputError: it is no run, or has not trained.
    """
    folder = storage.place(name)
    run = RunFolder(folder)
    if run.description.get("kind") == "import":
        raise InputError(f"{folder} is an imported model, which has not trained: nothing to report")
    if not has_trained(run):
        raise InputError(f"the run in {folder} has logged no step yet: report it when it has")
    step = max(entry["step"] for entry in run.measured() if "loss" in entry)
    history = origin.notes(run, step, metadata.read(run.model))["history"]
    trainings = [entry["arguments"] for entry in history if entry["tool"] == "train"]
    found = runs(trainings, run)
    known = [one for one in found if one] or [run]
    told = stages.figures([str(one.path) for one in known])
    return {
        "name": _name(folder),
        "path": str(folder),
        "kind": "run",
        "status": run.status()["status"],
        "version": run.description["version"],
        "stages": told,
        "others": len(trainings) - len(known),
        "evaluations": [],
        "context": run_model(run).architecture.max_position_embeddings,
        "funnels": [],
        "rows": _rows(str(folder), known[0], ""),
        "texts": [],
        "steps": [],
        "inputs": {},
        "config": config_file(run.description["config"]),
        "vocabulary": metadata.read(run.model).get("vocabulary", {}),
    }


def of_recipe(name: str) -> Figures:
    """The figures of what a recipe has done so far.

    Raises:
      InputError: it is no recipe's folder, or no stage has trained.
    """
    folder = RecipeFolder(name)
    last = folder.runs[folder.chain[-1]]
    done = [folder.runs[name] for name in folder.chain]
    model = folder.model or str(last.path)
    arch = run_model(last).architecture
    return {
        "name": _name(folder.path),
        "path": str(folder.path),
        "kind": "recipe",
        "status": folder.content["status"],
        "version": folder.content["version"],
        "stages": stages.figures([str(run.path) for run in done]),
        "others": [name for name in folder.runs if name not in folder.chain],
        "evaluations": folder.evaluations(),
        "context": arch.max_position_embeddings,
        "funnels": folder.funnels(),
        "rows": _rows(model, done[0], folder.located(done[0].description["config"]["model"])),
        "texts": folder.texts(),
        "steps": [
            {
                "name": step.name,
                "command": step.line,
                "seconds": folder.records[step.name]["seconds"],
                "done": folder.records[step.name]["done"],
            }
            for step in folder.steps
        ],
        "inputs": {k: v for r in folder.records.values() for k, v in r.get("inputs", {}).items()},
        "config": "",
        "vocabulary": metadata.read(last.model).get("vocabulary", {}),
    }


def _name(folder: Place) -> str:
    """The last two parts of a path: many folders are called as others are elsewhere."""
    return "/".join(str(folder.resolve()).rsplit("/", 2)[1:])


def _rows(model: str, first: RunFolder, before: str) -> Figures:
    """New rows beside old ones.

    Args:
      model: a folder, or a run.
      first: the run of the first stage.
      before: the model that it began with, where that is known.
    """
    try:
        return rows.figures(open_lazy(model), _begun(first, before))
    except InputError as e:
        return {"missing": str(e)}


def _begun(first: RunFolder, before: str) -> LazyModel | None:
    """The model that a run began with, as far as it is still here."""
    config = first.description["config"]
    path: Place = storage.place(before or config["model"] or ".")
    here = is_run(path) or (path / CONFIG).is_file()
    try:
        if here and not config["init"]:
            return open_lazy(str(path))
        return began_with(first) if first.base else None
    except InputError:
        return None
