"""mergekit's passthrough recipes: YAML files that say which layers make a new model.

What a recipe says is done as mergekit 0.1.5 does it, to the byte. What it can say and this module
does not know is refused by name: a recipe is followed wholly or not at all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.lazy import LazyArray, cast, scaled
from maxlite.surgery.layers import Source

DTYPES = {str(dtype): dtype for dtype in names.WEIGHT_DTYPES}
ZEROED = ("o_proj", "down_proj")  # filters that make a block the identity
KEYS = (
    *("slices", "merge_method", "parameters", "dtype", "out_dtype", "base_model"),
    "tokenizer_source",
)

Entry = tuple[str, tuple[float, ...]]  # text in a tensor's name, values from first to last layer


@dataclass(frozen=True)
class Slice:
    """Layers `start` to `stop` - 1 of a model; its scale settings, the most important first."""

    model: str
    start: int
    stop: int
    scale: tuple[tuple[Entry, ...], ...]

    def factor(self, tensor: str, at: float) -> float | None:
        """What a tensor is multiplied by, None for nothing.

        Args:
            tensor: Its name in the model it comes from.
            at: How far into the slice its layer lies, from 0 to 1.
        """
        for entries in self.scale:
            for text, values in entries:
                if text not in tensor:
                    continue
                place = at * (len(values) - 1)
                low = int(place)
                high = min(low + 1, len(values) - 1)
                return (1 - (place - low)) * values[low] + (place - low) * values[high]
        return None


@dataclass(frozen=True)
class Recipe:
    """A passthrough recipe.

    Attributes:
        where: Its file, for messages.
        slices: In the order of the new model's layers.
        dtype: What tensors are cast to before they are scaled; None keeps theirs.
        out_dtype: What they are cast to afterwards.
        own_tokenizer: Whether the vocabulary shall be exactly the tokenizer's.
    """

    where: str
    slices: tuple[Slice, ...]
    dtype: np.dtype | None
    out_dtype: np.dtype | None
    own_tokenizer: bool

    @property
    def models(self) -> list[str]:
        """The models it names, the first slice's first."""
        return list(dict.fromkeys(part.model for part in self.slices))

    @property
    def sources(self) -> list[Source]:
        """Model and layer of each new layer."""
        return [(part.model, i) for part in self.slices for i in range(part.start, part.stop)]

    def factor(self, tensor: str, layer: int | None) -> float | None:
        """What a tensor is multiplied by, None for nothing.

        Args:
            tensor: Its name in the model it comes from.
            layer: The new layer it belongs to, None outside the layers.
        """
        if layer is None:
            return self.slices[0 if tensor == names.EMBEDDING else -1].factor(tensor, 0.0)
        for part in self.slices:
            length = part.stop - part.start
            if layer < length:
                return part.factor(tensor, layer / (length - 1) if length > 1 else 1.0)
            layer -= length
        raise IndexError(layer)

    def applied(self, array: LazyArray, tensor: str, layer: int | None) -> LazyArray:
        """A tensor cast and scaled as the recipe says; see `factor`."""
        factor = self.factor(tensor, layer)
        array = cast(array, self.dtype or array.dtype, tensor)
        if factor not in (None, 1.0):
            array = scaled(array, factor)
        return cast(array, self.out_dtype or array.dtype, tensor)

    @property
    def inserted(self) -> list[int]:
        """The new layers of which `o_proj` and `down_proj` are scaled to zero."""

        def zero(part: str, old: int, new: int) -> bool:
            return self.factor(f"{names.LAYERS}{old}.{part}.weight", new) == 0

        return [
            new
            for new, (_, old) in enumerate(self.sources)
            if zero("self_attn.o_proj", old, new) and zero("mlp.down_proj", old, new)
        ]


def read(file: str | Path) -> Recipe:
    """The passthrough recipe in a YAML file.

    Raises:
        InputError: there is none, it is malformed, or it says something else than passthrough of
            slices with scales; the key is named.
    """
    import yaml

    where = str(file)
    try:
        recipe = yaml.safe_load(Path(file).expanduser().read_text("utf-8"))
    except OSError as error:
        raise InputError(f"there is no recipe {where} to read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        told = " ".join(str(error).split())
        raise InputError(f"{where} is not valid YAML: {told}") from error
    if isinstance(recipe, dict) and recipe.get("merge_method") != "passthrough":
        raise InputError(
            f"{where} has merge_method {recipe.get('merge_method')!r}, but only recipes of"
            " passthrough can be followed: use mergekit for it"
        )
    recipe = _mapping(recipe, where, KEYS)
    common = _scale(recipe.get("parameters"), f"{where}: parameters")
    slices = tuple(
        _slice(part, f"{where}: slices[{i}]", common)
        for i, part in enumerate(_list(recipe.get("slices"), f"{where}: slices"))
    )
    found = Recipe(
        where,
        slices,
        _dtype(recipe, "dtype", where),
        _dtype(recipe, "out_dtype", where),
        recipe.get("tokenizer_source") is not None,
    )
    first = found.models[0]
    if recipe.get("base_model", first) not in (None, first):
        raise InputError(
            f"{where} has base_model {recipe['base_model']!r}, but config and tokenizer are those"
            f" of the first slice's model, {first}: remove it"
        )
    source = recipe.get("tokenizer_source")
    if source is not None and (len(found.models) > 1 or source not in ("base", "union", first)):
        raise InputError(
            f"{where} has tokenizer_source {source!r}, but the tokenizer and both tables are those"
            " of the first and last slice's model: remove it"
        )
    return found


def written(model: str, sources: Sequence[int], inserted: Sequence[int] = ()) -> str:
    """The recipe that makes a list of layers of one model; inserted ones by scales of zero."""
    import yaml

    slices: list[dict[str, Any]] = []
    for i, layer in enumerate(sources):
        grows = i and layer == sources[i - 1] + 1 and (i in inserted) == (i - 1 in inserted)
        if grows:
            slices[-1]["layer_range"][1] += 1
            continue
        slices.append({"model": model, "layer_range": [layer, layer + 1]})
        if i in inserted:
            zeros = [{"filter": part, "value": 0.0} for part in ZEROED]
            slices[-1]["parameters"] = {"scale": zeros}
    recipe = {"slices": [{"sources": [part]} for part in slices], "merge_method": "passthrough"}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None)


def _slice(value: Any, where: str, common: tuple[Entry, ...]) -> Slice:
    part = _mapping(value, where, ("sources", "parameters"))
    sources = _list(part.get("sources"), f"{where}.sources")
    if len(sources) != 1:
        raise InputError(
            f"{where}.sources has {len(sources)} entries, but passthrough takes exactly one a slice"
        )
    where_source = f"{where}.sources[0]"
    source = _mapping(sources[0], where_source, ("model", "layer_range", "parameters"))
    model = source.get("model")
    if not isinstance(model, str) or not model:
        raise InputError(f"{where_source}.model is {model!r}, expected a folder or a hub id")
    ends: Any = source.get("layer_range")
    whole = isinstance(ends, list) and [type(end) for end in ends] == [int, int]
    if not whole or not 0 <= ends[0] < ends[1]:
        raise InputError(
            f"{where_source}.layer_range is {ends!r}, expected [FIRST, END]: layers from 0, the end"
            " not included"
        )
    scale = (
        _scale(source.get("parameters"), f"{where_source}.parameters"),
        _scale(part.get("parameters"), f"{where}.parameters"),
        common,
    )
    return Slice(model, ends[0], ends[1], tuple(entries for entries in scale if entries))


def _scale(parameters: Any, where: str) -> tuple[Entry, ...]:
    """The entries of `scale`; the first whose text is in a tensor's name counts."""
    parameters = {} if parameters is None else _mapping(parameters, where, ("scale",))
    setting, where = parameters.get("scale"), f"{where}.scale"
    if setting is None:
        return ()
    if isinstance(setting, dict):
        setting = [setting]
    if not isinstance(setting, list) or not any(isinstance(entry, dict) for entry in setting):
        return (("", _values(setting, where)),)
    entries = []
    for i, entry in enumerate(setting):
        entry = _mapping(entry, f"{where}[{i}]", ("filter", "value"))
        text = entry.get("filter")
        if text is not None and not isinstance(text, str):
            raise InputError(f"{where}[{i}].filter is {text!r}, expected part of a tensor's name")
        values = _values(entry.get("value"), f"{where}[{i}].value")
        entries.append(("" if text in (None, "*") else text, values))
    return tuple(entries)


def _values(setting: Any, where: str) -> tuple[float, ...]:
    """A number, or several that are spread evenly over a slice's layers."""
    values = []
    for value in setting if isinstance(setting, list) else [setting]:
        try:  # YAML reads 1e-3 as a text
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{where} is {setting!r}, expected a number or a list of numbers")
        values.append(number)
    if not values:
        raise InputError(f"{where} is empty, expected a number or a list of numbers")
    return tuple(values)


def _mapping(value: Any, where: str, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} holds {value!r} where a mapping is expected")
    for key in value:
        if key not in known:
            known_keys = ", ".join(known)
            raise InputError(f"{where} has the key {key!r}, but only {known_keys} can be followed")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} is {value!r}, expected a list")
    return value


def _dtype(recipe: Mapping[str, Any], key: str, where: str) -> np.dtype | None:
    name = recipe.get(key)
    if name is None:
        return None
    if str(name).removeprefix("torch.") not in DTYPES:
        raise InputError(f"{where} has {key} {name!r}, expected one of {', '.join(DTYPES)}")
    return DTYPES[str(name).removeprefix("torch.")]
