"""All the figures that say how good a tokenizer is, alone or beside the one that it was made from.

They are plain values, as `--json` writes them and a page shows them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import regex

from maxlite.errors import InputError
from maxlite.tokenizer.agreement import compare
from maxlite.tokenizer.changes import Changes, Target, compare_texts
from maxlite.tokenizer.definition import JSON, Definition
from maxlite.tokenizer.extension import check_extends
from maxlite.tokenizer.oddities import oddities, written
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.scripts import holder, main_scripts, scripts
from maxlite.tokenizer.usage import Bar, Subject, Text, Usage, first, silent, sizes, steps

SIZES = (8000, 16000, 32000, 48000, 64000, 96000, 128000, 192000, 256000)


@dataclass(frozen=True)
class Model:
    """A model whose tables grow with the vocabulary.

    Attributes:
      name: of it.
      rows: of its tables now.
      width: of a row.
      tied: whether one table is both embedding and head.
      rest: all its other parameters.
    """

    name: str
    rows: int
    width: int
    tied: bool
    rest: int

    def share(self, rows: int) -> dict[str, Any]:
        """What the tables are of all the parameters if they have so many rows."""
        tables = rows * self.width * (1 if self.tied else 2)
        total = tables + self.rest
        return {"rows": rows, "tables": tables, "parameters": total, "share": tables / total}


def report(
    subjects: Sequence[Subject],
    base: Subject | None,
    texts: Sequence[Text],
    *,
    models: Sequence[Model] = (),
    meant_for: Sequence[str] = (),
    lines: int = 0,
    examples: int = 12,
    workers: int = 0,
    bar: Bar = silent,
) -> dict[str, Any]:
    """Looks at tokenizers in the light of some texts; memory does not grow with those.

    Args:
      subjects: the tokenizers.
      base: what they are compared with. It need not be what they extend; that is told.
      texts: files, each read once for every tokenizer, and again to compare.
      models: whose tables are to be told.
      meant_for: the scripts that new pieces are for; none means those of the new pieces.
      lines: compare at most so many documents of each file; 0 for all.
      examples: how many to give of everything.
      workers: processes, as for `counting.count`.
      bar: shows progress in bytes under a name.

    Returns:
      "base": its name or None; "lines" as given; "total" and, of each, "tokenizers", "files",
      "groups" and "models": their figures.

    Raises:
      InputError: there is no token in the texts, one cannot be read, or a script is unknown.
    """
    everyone = [*([base] if base else []), *subjects]
    fresh = {s.name: _fresh(base, s) for s in everyone}
    targets = {s.name: _target(base, s, fresh[s.name], meant_for) for s in subjects if base}
    used = {s.name: Usage(s, texts, fresh[s.name], workers, bar) for s in everyone}
    if not all(usage.total.total.tokens for usage in used.values()):
        raise InputError("there is no token to count: the text is empty, or white space alone")
    changes: dict[str, list[tuple[str, Changes]]] = {name: [] for name in targets}
    if base and targets:
        with steps(bar, "comparing", texts) as documents:
            for text in texts:
                chosen = first(documents(text), lines)
                found = compare_texts(base.tokenizer, [*targets.values()], chosen, examples)
                for name, of in zip(targets, found, strict=True):
                    changes[name].append((text.name, of))
    dead = {subject.name: unreachable(subject.tokenizer) for subject in everyone}
    before = dead[base.name] if base else np.zeros(0, np.int64)
    tokenizers = []
    for subject in everyone:
        new = fresh[subject.name]
        figures = _about(subject, base) | {"new": int(new.sum())}
        figures |= used[subject.name].figures(examples)
        lost = np.zeros(0, np.int64)
        if subject.name in targets:
            olds = targets[subject.name].same[dead[subject.name]]
            lost = dead[subject.name][(olds >= 0) & ~np.isin(olds, before)]
        figures["unreachable"] = _unreachable(subject, new, dead[subject.name], lost, examples)
        figures["oddities"] = _oddities(subject, new, examples)
        figures["agreement"] = _agreement(subject.definition, texts, lines, bar)
        if subject.name in targets:
            names = [subject.tokenizer.piece(i) for i in np.flatnonzero(new).tolist()]
            figures["meant_for"] = list(meant_for) or _meant_for(subject, new)
            figures["changes"] = _changes(changes[subject.name], examples)
            figures["new_scripts"] = dict(_scripts(names).most_common())
        tokenizers.append(figures)
    files = [sizes(text.name, text.group, [text.name], used) for text in texts]
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text.group, []).append(text.name)
    return {
        "base": base.name if base else None,
        "lines": lines,
        "tokenizers": tokenizers,
        "files": files,
        "groups": [sizes(name, name, inside, used) for name, inside in groups.items()],
        "total": sizes("all", "", [text.name for text in texts], used),
        "models": [_tables(model, everyone) for model in models],
    }


# --- one tokenizer ---------------------------------------------------------------------------


def _about(subject: Subject, base: Subject | None) -> dict[str, Any]:
    definition = subject.definition
    relation = ""
    if base and subject is not base:
        try:
            check_extends(base.tokenizer, subject.tokenizer)
        except InputError as error:
            relation = str(error)
    return {
        "name": subject.name,
        "where": definition.where,
        "form": definition.form,
        "model": definition.model,
        "rows": subject.tokenizer.rows,
        "fingerprint": subject.tokenizer.fingerprint,
        "not_an_extension": relation,
        "kinds": dict(Counter(piece.kind for piece in definition.pieces)),
    }


def _fresh(base: Subject | None, subject: Subject) -> np.ndarray:
    """Which of its pieces the base does not have, special tokens apart; bool [rows]."""
    tokenizer = subject.tokenizer
    if base is None or subject is base:
        return np.zeros(tokenizer.rows, bool)
    same = Target(base.tokenizer, tokenizer, None).same
    plain = [tokenizer.raw(index) is not None for index in range(tokenizer.rows)]
    return (same < 0) & np.array(plain)


def _meant_for(subject: Subject, fresh: np.ndarray) -> list[str]:
    texts = written(subject.tokenizer)
    return main_scripts(texts.get(index) or "" for index in np.flatnonzero(fresh).tolist())


def _target(
    base: Subject | None, subject: Subject, fresh: np.ndarray, meant_for: Sequence[str]
) -> Target:
    assert base is not None
    try:
        pattern = holder(meant_for or _meant_for(subject, fresh))
    except regex.error:
        raise InputError(
            f"{'|'.join(meant_for)!r} holds a script that Unicode does not know; write them like "
            "Hangul|Han"
        ) from None
    return Target(base.tokenizer, subject.tokenizer, pattern)


def _scripts(texts: Iterable[str]) -> Counter[str]:
    """How many of some pieces are in each script; in several count as mixed, in none as signs."""
    found: Counter[str] = Counter()
    for text in texts:
        names = [*scripts(text)]
        found["mixed" if len(names) > 1 else names[0] if names else "signs and digits"] += 1
    return found


def _examples(
    subject: Subject, ids: Iterable[int], first: np.ndarray, most: int
) -> list[dict[str, Any]]:
    """Some pieces, those for which `first` (bool [rows]) holds before all."""
    ordered = sorted(ids, key=lambda index: not first[index])
    return [{"id": i, "piece": subject.tokenizer.piece(i)} for i in ordered[:most]]


def _unreachable(
    subject: Subject, fresh: np.ndarray, dead: np.ndarray, lost: np.ndarray, most: int
) -> dict[str, Any]:
    """Of the pieces that no text gives; `lost` are those of them that the base does give."""
    tokenizer, pieces = subject.tokenizer, subject.definition.pieces
    ordinary, ids = len(written(tokenizer)), dead.tolist()
    new = int(fresh[dead].sum())
    both = [_examples(subject, some, fresh, most) for some in (lost.tolist(), ids)]
    shown = [*both[0][: most // 2], *(row for row in both[1] if row["id"] not in lost)][:most]
    parts = tokenizer.encode_inside([tokenizer.raw(row["id"]) or b"" for row in shown])
    for row, found in zip(shown, parts, strict=True):
        row["becomes"] = [tokenizer.piece(i) for i in found.tolist()]
    return {
        "count": len(ids),
        "of": ordinary,
        "share": len(ids) / max(1, ordinary),
        "new": new,
        "new_share": new / max(1, int(fresh.sum())),
        "lost": len(lost),
        "by_kind": dict(Counter(pieces[i].kind for i in ids if i < len(pieces))),
        "by_script": dict(_scripts(tokenizer.piece(i) for i in ids).most_common()),
        "examples": shown,
    }


def _oddities(subject: Subject, fresh: np.ndarray, most: int) -> list[dict[str, Any]]:
    found = []
    for odd in oddities(subject.tokenizer):
        shown = _examples(subject, odd.ids, fresh, most)
        for row in shown:
            if row["id"] in odd.twins:
                row["twin"] = subject.tokenizer.piece(odd.twins[row["id"]])
        new = int(fresh[odd.ids].sum())
        found.append(
            {"name": odd.name, "what": odd.what, "count": len(odd.ids), "new": new}
            | {"examples": shown}
        )
    return found


def _agreement(
    definition: Definition, texts: Sequence[Text], lines: int, bar: Bar
) -> dict[str, Any] | None:
    """Whether both forms segment the texts alike; None where there is but tokenizer.json."""
    if definition.form != "sentencepiece":
        return None
    if JSON not in definition.files:
        return {"without_json": definition.without_json}
    with steps(bar, "comparing forms", texts) as documents:
        chosen = (one for text in texts for one in first(documents(text), lines))
        found = asdict(compare(definition, chosen))
    return found | {"made": isinstance(definition.files[JSON], bytes)}


def _changes(by_file: Sequence[tuple[str, Changes]], most: int) -> dict[str, Any]:
    keys = [field.name for field in fields(Changes) if field.name != "examples"]
    files = [{"name": name} | {key: getattr(of, key) for key in keys} for name, of in by_file]
    examples = [
        {"name": name, **asdict(change)} for name, of in by_file for change in of.examples[:3]
    ]
    total = {key: sum(getattr(of, key) for _, of in by_file) for key in keys}
    return total | {"files": files, "examples": examples[:most]}


def _tables(model: Model, everyone: Sequence[Subject]) -> dict[str, Any]:
    return {
        "name": model.name,
        "tied": model.tied,
        "width": model.width,
        "now": model.share(model.rows),
        "tokenizers": {s.name: model.share(s.tokenizer.rows) for s in everyone},
        "sizes": [model.share(rows) for rows in SIZES],
    }
