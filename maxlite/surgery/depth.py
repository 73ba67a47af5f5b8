"""Depth: the same layers in a new order, most of them more than once, or from several models.

Only references move. What is computed is what a recipe scales or casts; the zeros of inserted
layers are written, not stored.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import lazy, metadata, names
from maxlite.hf.folder import LazyModel, open_folder, resolve
from maxlite.hf.lazy import LazyArray
from maxlite.surgery import layers as lists
from maxlite.surgery import mergekit as recipes
from maxlite.surgery.layers import Source
from maxlite.surgery.mergekit import Recipe

ZEROED = ("self_attn.o_proj.", "mlp.down_proj.")  # a residual block without them adds nothing
MAY_DIFFER = {  # between models whose layers are put together
    *("num_hidden_layers", "max_position_embeddings", "initializer_range"),
    *("bos_token_id", "eos_token_id", "base_rows"),
}

Change = Callable[[LazyArray, str, int | None], LazyArray]  # tensor, its old name, new layer


def upscale(
    model: LazyModel,
    *,
    method: str = "",
    drop: int = 0,
    group: int = 0,
    add: int = 0,
    layers: str = "",
    mergekit: str = "",
    as_llama: bool = False,
    rows: Callable[[LazyModel], int] | None = None,
) -> LazyModel:
    """The model that `maxlite.transforms.UpscaleDepth` describes with the same settings.

    Args:
        model: The model; with `mergekit`, the first one of the recipe, or what stands for its only.
        method, drop, group, add, layers: See `layers.chosen`.
        mergekit: A recipe's file, instead of those.
        as_llama: Make a Llama of a Mistral, as well or only.
        rows: How many rows a model's tokenizer needs, for recipes that ask for exactly these.

    Raises:
        InputError: settings that contradict each other or do not fit the model.
    """
    settings: dict[str, Any] = {"method": method, "drop": drop, "group": group, "add": add}
    settings["layers"] = layers
    given = [name for name, value in settings.items() if value]
    if mergekit and given:
        raise InputError(
            f"the recipe {mergekit} gives the whole list, so {', '.join(given)} beside it must be"
            " left out"
        )
    if mergekit:
        model = follow(model, recipes.read(mergekit), rows)
    elif given or not as_llama:
        depth = model.architecture.num_hidden_layers
        model = rearrange(model, *lists.chosen(depth, **settings))
    return llama_from_mistral(model) if as_llama else model


def rearrange(model: LazyModel, sources: Sequence[int], inserted: Sequence[int] = ()) -> LazyModel:
    """A model of the layers `sources` of one model.

    Args:
        model: The model.
        sources: The old layer of each new one.
        inserted: New layers that add nothing to their input, because `o_proj` and `down_proj` are
            zero (LLaMA-Pro, arXiv 2401.02415, 3.2).
    """

    def change(array: LazyArray, old: str, layer: int | None) -> LazyArray:
        zeroed = layer in inserted and any(part in old for part in ZEROED)
        return lazy.zeros(array.shape, array.dtype) if zeroed else array

    return _assembled({"": model}, [("", layer) for layer in sources], inserted, change)


def follow(
    model: LazyModel, recipe: Recipe, rows: Callable[[LazyModel], int] | None = None
) -> LazyModel:
    """The model of a recipe; embedding and files from its first model, norm and head from its last.

    Args:
        model: The recipe's first model, or what stands for its only one.
        recipe: The recipe.
        rows: As in `upscale`.

    Raises:
        InputError: layers that a model does not have, or models that do not fit each other.
    """
    first, *others = recipe.models
    if others and resolve(first).resolve() != model.path.resolve():
        raise InputError(
            f"{recipe.where} names {len(recipe.models)} models, so {model.path} cannot stand for"
            f" one of them: name its first, {first}, or none"
        )
    models = {first: model, **{name: open_folder(resolve(name)) for name in others}}
    for part in recipe.slices:
        depth = models[part.model].architecture.num_hidden_layers
        if part.stop > depth:
            raise InputError(
                f"{recipe.where} has layer_range [{part.start}, {part.stop}] of {part.model},"
                f" which has {depth} layers"
            )
    for name in others:
        _check_fits(models[name], model, recipe.where)
    have = model.architecture.vocab_size
    if recipe.own_tokenizer and (rows is None or rows(model) != have):
        raise InputError(
            f"{recipe.where} has tokenizer_source, which would cut the {have:,} rows of the tables"
            " to those of the tokenizer: remove it to keep them"
        )
    after = _assembled(models, recipe.sources, recipe.inserted, recipe.applied)
    dtype = recipe.out_dtype or recipe.dtype
    if dtype is not None:
        return dataclasses.replace(after, dtype=str(dtype), kinds={})
    stored = sorted({str(array.dtype) for array in after.tensors.values()})
    notes = (f"every tensor keeps its dtype: {', '.join(stored)}",) if len(stored) > 1 else ()
    return dataclasses.replace(after, notes=after.notes + notes)


def llama_from_mistral(model: LazyModel) -> LazyModel:
    """The same tensors under a Llama config, which has no sliding window.

    Raises:
        InputError: the model is a Llama already.
    """
    before = model.architecture
    if before.model_type == "llama":
        raise InputError(f"{model.path} is a Llama model already: leave out as_llama")
    window, length = before.sliding_window, before.max_position_embeddings
    after = dataclasses.replace(before, model_type="llama", sliding_window=0)
    if not window:
        note = "it has no sliding window, so the model is the same"
    elif window >= length:
        note = (
            f"its sliding window of {window:,} tokens is dropped; it is not shorter than"
            f" max_position_embeddings, {length:,}, so the model is the same"
        )
    else:
        after.max_position_embeddings = window
        note = (
            f"its sliding window of {window:,} tokens is dropped and max_position_embeddings set to"
            f" {window:,}, from {length:,}: up to there the model is the same, beyond it would not"
            " be"
        )
    notes = (*model.notes, f"{before.model_type} becomes llama: {note}")
    return dataclasses.replace(model, architecture=after, notes=notes)


def parameters(arch: Architecture) -> int:
    """The number of parameters that an architecture has; a tied table counts once."""
    return sum(math.prod(shape) for shape in names.expected(arch).values())


def _assembled(
    models: Mapping[str, LazyModel],
    sources: Sequence[Source],
    inserted: Sequence[int],
    change: Change,
) -> LazyModel:
    """The layers `sources` of models as one model, after `change` of each tensor."""
    first = models[sources[0][0]]
    arch = dataclasses.replace(first.architecture, num_hidden_layers=len(sources))
    dtypes = {name: model.dtypes for name, model in models.items() if model.kinds}
    tensors, kinds = {}, {}
    for name in names.expected(arch):
        part, layer = names.split(name)
        if layer is None:
            model, old = sources[0 if name == names.EMBEDDING else -1][0], name
        else:
            model, old = sources[layer][0], names.unstacked(part, sources[layer][1])
        tensors[name] = change(models[model].tensors[old], old, layer)
        if model in dtypes:
            kinds[name] = dtypes[model][old]
    several = len(models) > 1
    earlier = {
        name: metadata.inserted(model.metadata, f"the maxlite.json of {model.path}")
        for name, model in models.items()
    }
    record = {
        "sources": [[*source] if several else source[1] for source in sources],
        "inserted": [
            i for i, (name, layer) in enumerate(sources) if i in inserted or layer in earlier[name]
        ],
    }
    notes = tuple(f"{name}: {note}" for name in [*models][1:] for note in models[name].notes)
    return dataclasses.replace(
        first,
        architecture=arch,
        tensors=tensors,
        kinds=kinds,
        metadata={**first.metadata, "layers": record},
        notes=(*first.notes, *notes, *_told(models, sources, inserted, arch)),
    )


def _told(
    models: Mapping[str, LazyModel],
    sources: Sequence[Source],
    inserted: Sequence[int],
    arch: Architecture,
) -> list[str]:
    depths = [model.architecture.num_hidden_layers for model in models.values()]
    seams = len(lists.seams(sources))
    line = (
        f"{len(sources)} layers from {' and '.join(map(str, depths))}, {seams or 'no'}"
        f" seam{'s' * (seams != 1)} (|), {parameters(arch):,} parameters"
    )
    star = ["* inserted: o_proj and down_proj are zero, so it adds nothing yet"]
    shown = lists.picture(sources, max(depths), inserted)
    return [line, *(f"  {row}" for row in [*shown, *star[: len(inserted)]])]


def _check_fits(one: LazyModel, other: LazyModel, where: str) -> None:
    """Refuses to put layers together that do not compute with the same shapes and mathematics."""
    theirs, ours = dataclasses.asdict(one.architecture), dataclasses.asdict(other.architecture)
    told = [
        f"{key} {theirs[key]!r} and {ours[key]!r}"
        for key in ours
        if theirs[key] != ours[key] and key not in MAY_DIFFER
    ]
    if told:
        raise InputError(
            f"{where} puts layers of {one.path} and {other.path} together, which do not fit:"
            f" {', '.join(told)}"
        )
