"""The order file: everything that an order depends on, as a folder that tools and runs can take.

order.json       sources with the content hashes of their tokens, weights, tokenizer, seed, seq_len
documents-N.npy  where documents of source N were chosen: int64 [D], ascending, their numbers in its
                 token cache
kept.npy         where it reads chosen sequences of another order: int64 [M], ascending, their
                 numbers there; order.json then has that order's seed and batch size under "kept"

The sequence itself is computed from these (see `maxlite.data.order`), never listed. A run has its
own in `order/`, so a run may be named wherever an order is asked for.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs, storage
from maxlite.config import Config, Data, resolve
from maxlite.data.kept import KeptOrder, kept_numbers
from maxlite.data.order import LIMIT, VERSION, Mixture, Order, OrderSource
from maxlite.data.view import digest
from maxlite.errors import InputError
from maxlite.mixture import Source, phases
from maxlite.storage import Place, Url
from maxlite.tokenizer import Tokenizer

FORMAT = 1
KEPT_FORMAT = 2  # of an order with kept sequences
FILE = "order.json"


@dataclass
class Listed:
    """A source of an order.

    Attributes:
      source: as a config says it, with its name.
      content: of its token cache.
      documents: which of the cache's documents are read, int64 [D], ascending; None: all that are
        not held out.
    """

    source: Source
    content: str
    documents: np.ndarray | None = None

    @cached_property
    def digest(self) -> str:
        """A hash (hex) of the choice of documents; "" if there is none."""
        return "" if self.documents is None else digest(self.documents)


@dataclass
class Kept:
    """Which sequences of a base order are read. It has the same sources, of the same documents.

    Attributes:
      numbers: of its sequences, int64 [M], ascending.
      seed: of the base order.
      batch_size: its sequences a step, which say what a number means where weights change at steps;
        0 where none does.
    """

    numbers: np.ndarray
    seed: int
    batch_size: int = 0

    @cached_property
    def digest(self) -> str:
        """A hash (hex) of the numbers."""
        return digest(self.numbers)


@dataclass
class OrderFile:
    """What an order's folder says.

    Attributes:
      sources: what is mixed, in this order.
      tokenizer: fingerprint of the tokenizer that encodes it.
      bos, eos: ids around each document, or None.
      seed: of the permutations.
      seq_len: tokens a sequence.
      held_out: share of each source's documents that is never trained on.
      txt: what a document of a .txt file is; see `config.Data`.
      base: fingerprint of the order file it was made from; "" if it was made from a config.
      notes: what its maker says of it, for people; plain JSON.
      kept: the sequences that are read, in an order that `seed` says; None: all.
    """

    sources: tuple[Listed, ...]
    tokenizer: str
    bos: int | None
    eos: int | None
    seed: int
    seq_len: int
    held_out: float = 0.0
    txt: str = "line"
    base: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    kept: Kept | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A hash (hex) of what the sequence depends on: not of names, paths or limits on epochs.

        Nor of the batch size: that only says how many sequences a step has (and so, where weights
        change, after how many).
        """
        sources = [(s.content, s.source.weight, s.source.later, s.digest) for s in self.sources]
        ends = (self.bos, self.eos)
        said = [VERSION, self.tokenizer, ends, self.seed, self.seq_len, self.held_out, sources]
        if self.kept:
            said.append([self.kept.digest, self.kept.seed, self.kept.batch_size])
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def order(self, sources: Sequence[OrderSource], batch_size: int) -> Order:
        """The order itself, of its sources as they were found, with so many sequences a step."""
        if not self.kept:
            return Order(sources, self.seed, self.seq_len, batch_size)
        base = Order(sources, self.kept.seed, self.seq_len, self.kept.batch_size or batch_size)
        return KeptOrder(base, self.kept.numbers, self.seed, batch_size)

    def keeping(
        self, numbers: np.ndarray, seed: int, batch_size: int, notes: Mapping[str, Any]
    ) -> "OrderFile":
        """The order of a later round: some sequences of this one, in another order.

        Args:
          numbers: of the sequences, distinct, int64 [M].
          seed: of the order that they get.
          batch_size: sequences a step that this order was read with.
          notes: what to say of the choice, for people; plain JSON.

        Raises:
          InputError: there are none, or some are read more than once.
        """
        if not len(numbers):
            raise InputError("no sequence is kept; keep a larger share")
        changes = any(listed.source.later for listed in self.sources)
        kept = Kept(np.sort(numbers), self.seed, batch_size if changes else 0)
        if self.kept:  # numbers are always those of the first order, so that rounds do not pile up
            if (last := int(numbers.max())) >= len(self.kept.numbers):
                raise InputError(
                    f"sequence {last:,} is read in a second pass through the "
                    f"{len(self.kept.numbers):,} sequences that this order keeps; choose among "
                    "those of the first"
                )
            chosen = kept_numbers(self.kept.numbers, self.seed, numbers)
            kept = replace(self.kept, numbers=np.sort(chosen))
        if (np.diff(kept.numbers) == 0).any():
            raise ValueError("a sequence is kept twice")
        return replace(self, seed=seed, kept=kept, base=self.fingerprint, notes=dict(notes))

    def source_of(self, numbers: np.ndarray, batch_size: int) -> np.ndarray:
        """Which source sequences are from, by their numbers: int64, without looking at any text.

        Args:
          numbers: of sequences; int64 [N].
          batch_size: sequences a step that they are read with.
        """
        if self.kept:
            numbers = kept_numbers(self.kept.numbers, self.seed, numbers)
            batch_size = self.kept.batch_size
        changes = phases([listed.source for listed in self.sources])
        return Mixture([(step * batch_size, weights) for step, weights in changes]).draws(numbers)[
            0
        ]

    def check(self, settings: Data, tokenizer: Tokenizer, seq_len: int) -> None:
        """Refuses a run that would follow this order with other settings than it was made with.

        Raises:
          InputError: another tokenizer, other ends of documents, another seq_len or held-out share.
        """
        where = f"the order in {settings.order}"
        if tokenizer.fingerprint != self.tokenizer:
            raise InputError(
                f"{where} was made with another tokenizer (fingerprint {self.tokenizer[:12]}) than "
                f"{tokenizer.path} ({tokenizer.fingerprint[:12]}); make an order with this one"
            )
        if (tokenizer.bos, tokenizer.eos) != (self.bos, self.eos):
            raise InputError(
                f"{where} has documents between the ids {self.bos} and {self.eos}, but BOS and EOS "
                f"of {tokenizer.path} are {tokenizer.bos} and {tokenizer.eos}; make an order anew"
            )
        if seq_len != self.seq_len:
            raise InputError(
                f"{where} has sequences of {self.seq_len} tokens, but seq_len is {seq_len}; set "
                f"seq_len={self.seq_len}"
            )
        if settings.held_out not in (0, self.held_out):
            raise InputError(
                f"{where} holds out {self.held_out:g} of the documents, but data.held_out is "
                f"{settings.held_out:g}; leave it at 0 to have the order's"
            )


def find_order(path: str | os.PathLike[str] | Url) -> Place:
    """The folder of an order that a path means: itself, or that of the run there.

    Raises:
      InputError: there is no order.
    """
    given = storage.place(path)
    for folder in (given, given / "order"):
        if (folder / FILE).is_file():
            return folder
    if (given / "run.json").is_file():
        raise InputError(f"the run in {given} has no order: an older version of maxlite began it")
    raise InputError(f"{given} is no order and no run: there is no {FILE} in it")


def read_order(path: str | os.PathLike[str] | Url) -> OrderFile:
    """Reads an order's folder, or that of a run.

    Raises:
      InputError: there is none, it is damaged, or another version of the order or of its format.
    """
    folder = find_order(path)
    damaged = f"the order in {folder} is damaged or was changed"
    remedy = "restore it from a copy, or make it again"
    try:
        said = json.loads((folder / FILE).read_bytes())
        known = KEPT_FORMAT if said.get("kept") else FORMAT
        if said["format"] != known or said["version"] != VERSION:
            raise InputError(
                f"the order in {folder} is of format {said['format']}, version {said['version']}, "
                f"where this maxlite has {known} and {VERSION}; use the one that made it"
            )
        order = _parsed(folder, said)
        fingerprint = order.fingerprint
    except OSError as e:
        raise InputError(f"{damaged}: {e.filename}: {e.strerror}; {remedy}") from None
    except (AttributeError, KeyError, TypeError, ValueError, EOFError) as e:
        raise InputError(f"{damaged}: {e!r}; {remedy}") from None
    if fingerprint != said["fingerprint"]:
        raise InputError(f"{damaged}: its content does not have its fingerprint; {remedy}")
    return order


def _parsed(folder: Place, said: dict[str, Any]) -> OrderFile:
    listed = []
    for entry in said.pop("sources"):
        content, name = entry.pop("content"), entry.pop("documents")
        documents = _numbers(folder, name) if name else None
        listed.append(Listed(Source(**entry), content, documents))
    names = {s.source.name for s in listed}
    if len(names) < len(listed):
        raise ValueError("two of its sources have one name")
    if any(not name or "/" in name for name in names):
        raise ValueError("one of its sources has a name that is empty or has a '/' in it")
    kept = _kept(folder, **said.pop("kept")) if "kept" in said else None
    made = ("format", "version", "fingerprint")
    said = {k: v for k, v in said.items() if k not in made}
    order = OrderFile(tuple(listed), **said, kept=kept)
    if not isinstance(order.notes, dict):
        raise ValueError("its notes are no JSON object")
    data = Data(tuple(s.source for s in listed), held_out=order.held_out, txt=order.txt)
    try:
        resolve(Config(data=data, seed=order.seed, seq_len=order.seq_len))
    except InputError as e:  # a value of another type or outside its range
        raise ValueError(str(e)) from None
    return order


def _kept(folder: Place, numbers: str, seed: int, batch_size: int) -> Kept:
    kept = Kept(_numbers(folder, numbers), seed, batch_size)
    if type(seed) is not int or type(batch_size) is not int or batch_size < 0:
        raise ValueError("what it says of the order that it keeps sequences of")
    if not len(kept.numbers) or (np.diff(kept.numbers) <= 0).any():
        raise ValueError(f"{numbers} has no ascending numbers")
    if kept.numbers[0] < 0 or kept.numbers[-1] >= LIMIT:
        raise ValueError(f"{numbers} has numbers that no sequence has")
    return kept


def _numbers(folder: Place, name: str) -> np.ndarray:
    if Path(name).name != name:
        raise ValueError(f"{name} is not a file beside {FILE}")
    file = folder / name
    if isinstance(file, Url):
        array = np.load(io.BytesIO(file.read_bytes()))
    else:
        array = np.load(file, mmap_mode="r")
    if array.dtype != np.int64 or array.ndim != 1:
        raise ValueError(f"{name} is not a list of int64")
    return np.asarray(array)  # slices of np.memmap itself are several times slower


def check_place(path: Path, overwrite: bool = False) -> None:
    """Refuses a path where `write_order` would not write.

    Raises:
      InputError: it exists, and may not be replaced or is no order.
    """
    if path.exists() and not (overwrite and (path / FILE).is_file()):
        raise InputError(f"{path} exists{' and is no order' if overwrite else ''}; choose another")


def write_order(path: str | os.PathLike[str], order: OrderFile, overwrite: bool = False) -> None:
    """Writes an order's folder, whole or not at all.

    Args:
      path: the folder to make.
      order: from `Corpus.file`; of chosen documents from `Corpus.chosen`, of chosen sequences from
        `OrderFile.keeping`.
      overwrite: replace an order that is there.

    Raises:
      InputError: something is there already, or nothing can be written there.
    """
    path = Path(path).expanduser()
    check_place(path, overwrite)
    sources = []
    with outputs.new_folder(path, replace=True) as folder:
        for i, listed in enumerate(order.sources):
            name = "" if listed.documents is None else f"documents-{i}.npy"
            if name:
                np.save(folder / name, np.asarray(listed.documents, np.int64))
            entry = asdict(listed.source)
            sources.append({**entry, "content": listed.content, "documents": name})
        said = {"format": FORMAT, "version": VERSION, "fingerprint": order.fingerprint}
        said |= asdict(replace(order, sources=(), kept=None)) | {"sources": sources}
        del said["kept"]
        if kept := order.kept:
            np.save(folder / "kept.npy", np.asarray(kept.numbers, np.int64))
            about = {"numbers": "kept.npy", "seed": kept.seed, "batch_size": kept.batch_size}
            said |= {"format": KEPT_FORMAT, "kept": about}
        outputs.write_text(folder / FILE, json.dumps(said, indent=2, ensure_ascii=False))
