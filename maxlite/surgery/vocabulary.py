"""More rows, fewer rows, or a table of one's own: the vocabulary of a model.

V rows, N new ones, D width. What is said of tokenizers comes as arrays, so none is needed here.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maxlite.errors import InputError
from maxlite.hf import json_values
from maxlite.hf.folder import CONFIG, LazyModel
from maxlite.hf.lazy import Concatenated, LazyArray, select
from maxlite.hf.names import EMBEDDING, HEAD
from maxlite.surgery.rows import RULES, Spans, new_rows
from maxlite.surgery.tokenizer_files import parsed

KEPT_IDS = "kept_ids.txt"
GENERATION = "generation_config.json"
ID_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "force_words_ids")


@dataclass(frozen=True)
class Vocabulary:
    """What surgery needs to know of a tokenizer.

    Attributes:
        path: Its folder or file.
        rows: 1 + its largest id.
        sha256: Of its main file.
        files: The companion files of the model that has it.
    """

    path: Path
    rows: int
    sha256: str
    files: Mapping[str, Path | bytes]


def untie(model: LazyModel) -> LazyModel:
    """The model with an output table of its own, which is the same as its input table.

    Raises:
        InputError: it has one.
    """
    if not model.architecture.tie_word_embeddings:
        raise InputError(f"{model.path} is not tied: it has an output table of its own already")
    return dataclasses.replace(
        model,
        architecture=dataclasses.replace(model.architecture, tie_word_embeddings=False),
        tensors={**model.tensors, HEAD: model.tensors[EMBEDDING]},
        notes=(*model.notes, f"untied: {HEAD} is a copy of {EMBEDDING}"),
    )


def extend(
    model: LazyModel,
    base: Vocabulary,
    new: Vocabulary,
    pieces: Spans,
    leads: Spans,
    *,
    input_init: str = "mean",
    output_init: str = "",
    match_norms: bool = False,
    reuse_padding: bool = False,
    seed: int = 0,
) -> LazyModel:
    """The model with rows for the new pieces of a tokenizer that extends its own.

    Args:
        model: What to extend; the bytes of its rows stay.
        base: Its tokenizer.
        new: The tokenizer it gets.
        pieces: The old pieces of each new one.
        leads: The same for the beginning of each, which the rule `first` takes.
        input_init: A key of `rows.RULES`.
        output_init: The same for the output table; empty means `mean`.
        match_norms: Scale each new row to the median norm of the table's old ones.
        reuse_padding: Let new pieces take rows that the model has beyond its tokenizer.
        seed: Of the random rules.

    Raises:
        InputError: a rule is unknown or for a table that is not there, the model has fewer rows
            than its tokenizer ids, or more and `reuse_padding` is not set.
    """
    tables = _rules(model, input_init, output_init)
    has = model.architecture.vocab_size
    if base.rows > has:
        raise InputError(
            f"{base.path} has token ids up to {base.rows - 1}, but the model in {model.path} has"
            f" only {has} rows: put its own tokenizer there"
        )
    if base.rows < has and not reuse_padding:
        raise InputError(
            f"{model.path} has {has} rows for a tokenizer of {base.rows} ids, so new pieces would"
            f" fall on its {has - base.rows} surplus rows: pass --reuse_padding (in a config"
            " reuse_padding=True) to let them take these rows"
        )
    if seed < 0:
        raise InputError(f"seed {seed} is negative: give 0 or more")
    tensors: dict[str, LazyArray] = dict(model.tensors)
    notes = [f"{has:,} vocabulary rows -> {max(has, new.rows):,}, {new.rows - base.rows:,} new"]
    if base.rows < has:
        notes[0] += f", {min(has, new.rows) - base.rows:,} of them in the place of surplus ones"
    for number, (name, rule) in enumerate(tables.items()):
        table = tensors[name]
        old = table.rows(0, base.rows)
        spans = leads if rule == "first" else pieces
        added = new_rows(old, rule, spans, match_norms=match_norms, seed=(seed, number), name=name)
        surplus = [table.rows(new.rows, has)] if new.rows < has else []
        tensors[name] = Concatenated((old, added, *surplus))
        made = ", ".join(f"{count:,} by {how}" for how, count in added.counts.items())
        notes.append(f"new rows of {name}: {made}{', norms matched' if match_norms else ''}")
    arch = dataclasses.replace(
        model.architecture, vocab_size=max(has, new.rows), base_rows=base.rows
    )
    inits = dict(zip(("input_init", "output_init"), tables.values(), strict=False))
    note = {
        "base_rows": base.rows,
        "rows": arch.vocab_size,
        **inits,
        "tokenizer_sha256": new.sha256,
        "base_tokenizer_sha256": base.sha256,
    }
    return dataclasses.replace(
        model,
        architecture=arch,
        tensors=tensors,
        metadata={**model.metadata, "vocabulary": note},
        files=new.files,
        notes=(*model.notes, *notes, *_left_out(model, new)),
    )


def _rules(model: LazyModel, input_init: str, output_init: str) -> dict[str, str]:
    """The rule of each table there is."""
    for flag, rule in (("input_init", input_init), ("output_init", output_init or "mean")):
        if rule not in RULES:
            raise InputError(f"{flag} {rule!r} is not a rule: choose one of {', '.join(RULES)}")
    if not model.architecture.tie_word_embeddings:
        return {EMBEDDING: input_init, HEAD: output_init or "mean"}
    if output_init:
        raise InputError(
            f"{model.path} is tied, so it has no output table for output_init={output_init}: leave"
            " that out, or untie the model first (--untie; in a config Untie() before)"
        )
    return {EMBEDDING: input_init}


def compact(
    model: LazyModel, kept: np.ndarray, base: Vocabulary | None, new: Vocabulary | None
) -> LazyModel:
    """The model with some of its vocabulary rows only.

    Token ids in its config.json and generation_config.json are renumbered.

    Args:
        model: What to take them from.
        kept: Which rows, ascending [R], from `read_ids`.
        base: Its tokenizer, if it has one.
        new: The tokenizer it gets; None keeps the model's own, whose ids must then stay the same.

    Raises:
        InputError: the tokenizer does not have R ids, or a token that a config names is not kept.
    """
    if new is not None and new.rows != len(kept):
        raise InputError(
            f"{new.path} has {new.rows} ids, but {len(kept)} rows are kept: each needs the other,"
            " so give the tokenizer that belongs to these ids"
        )
    if new is None and base is not None and not np.array_equal(kept[: base.rows], range(base.rows)):
        raise InputError(
            f"the tokenizer of {model.path} has {base.rows} ids, which {len(kept)} kept rows do not"
            " leave as they are: give the compacted one (--tokenizer)"
        )
    arch = model.architecture
    tensors: dict[str, LazyArray] = dict(model.tensors)
    for name in (EMBEDDING, HEAD):
        if name in tensors:
            tensors[name] = select(tensors[name], kept)
    files = dict(new.files if new else model.files)
    if GENERATION in files:
        before = parsed(files, GENERATION)
        after = renumbered(before, kept, str(model.path / GENERATION))
        if after != before:
            files[GENERATION] = json_values.dump(after)
    files.pop(model.metadata.get("kept_ids", KEPT_IDS), None)
    files[KEPT_IDS] = "".join(f"{index}\n" for index in kept.tolist()).encode()
    note = {**model.metadata.get("vocabulary", {}), "rows": len(kept)}
    note.pop("base_rows", None)
    if new:
        note["tokenizer_sha256"] = new.sha256
    return dataclasses.replace(
        model,
        config=renumbered(model.config, kept, str(model.path / CONFIG)),
        architecture=dataclasses.replace(
            arch,
            vocab_size=len(kept),
            base_rows=0,
            bos_token_id=_place(arch.bos_token_id, kept),
            eos_token_id=_place(arch.eos_token_id, kept),
        ),
        tensors=tensors,
        metadata={**model.metadata, "vocabulary": note, "kept_ids": KEPT_IDS},
        files=files,
        notes=(
            *model.notes,
            f"{arch.vocab_size:,} vocabulary rows -> {len(kept):,}",
            *(_left_out(model, new) if new else ()),
        ),
    )


def _left_out(model: LazyModel, new: Vocabulary) -> list[str]:
    lost = [name for name in model.files if name not in new.files]
    return [f"left out, being of the old tokenizer: {', '.join(lost)}"] if lost else []


def read_ids(path: Path, rows: int) -> np.ndarray:
    """The ids in a file, one a line in any order, ascending; int64 [R].

    Raises:
        InputError: there is no such file, or a line is not an id below `rows`, or one comes twice.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of ids: {error}") from error
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise InputError(f"{path}, line {number}: {text[:40]!r} is not a token id")
        index = int(text)
        if index >= rows:
            raise InputError(f"{path}, line {number}: the model has no row {index}, only {rows}")
        if index in seen:
            raise InputError(f"{path}, line {number}: id {index} is in line {seen[index]} already")
        seen[index] = number
    if not seen:
        raise InputError(f"{path} holds no ids: write one a line")
    return np.array(sorted(seen), np.int64)


def renumbered(config: dict[str, Any], kept: np.ndarray, where: str) -> dict[str, Any]:
    """A config whose token ids are those of the kept rows.

    Args:
        config: of config.json or generation_config.json.
        kept: the ids that stay, int64 [R], ascending; a row's new id is its place among them.
        where: the file, for messages.

    Raises:
        InputError: it names an id that does not stay, or biases of sequences of ids.
    """

    def place(key: str, value: Any) -> Any:
        if isinstance(value, list):
            return [place(key, one) for one in value]
        if type(value) is not int or value < 0:
            return value
        if (index := _place(value, kept)) < 0:
            raise InputError(
                f"{where} has {key} {value}, which is not among the ids to keep: keep it, or change"
                " it there"
            )
        return index

    if config.get("sequence_bias"):
        raise InputError(f"{where} has a sequence_bias, whose ids are not renumbered: remove it")
    ids = [key for key in config if key.endswith("_token_id") or key in ID_LISTS]
    return config | {key: place(key, config[key]) for key in ids}


def _place(index: int, kept: np.ndarray) -> int:
    """The new id of an old one; -1 if it is not kept."""
    found = int(np.searchsorted(kept, index))
    return found if found < len(kept) and kept[found] == index else -1
