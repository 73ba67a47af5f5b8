"""What datatrove's executors run: blocks that read, take steps, and write.

A task (`rank`) of a pass is one shard of the corpus. Each block counts what goes through it; the
executor keeps the counts of each task that is done, so a pass can be stopped and gone on with.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.writers.jsonl import JsonlWriter
from datatrove.utils.stats import Stats

from maxlite.corpus import arrays
from maxlite.corpus.blame import blaming
from maxlite.corpus.cleaning import stamp
from maxlite.corpus.described import named
from maxlite.corpus.step import Corpuswide, Result, Step
from maxlite.data import sources
from maxlite.errors import InputError
from maxlite.tokenizer.batching import batches
from maxlite.tokenizer.counting import Part
from maxlite.tokenizer.workers import exactly

_BATCH, _BATCH_CHARS = 1000, 1 << 20
SHARD = "{:05d}.jsonl.zst"  # as Write names them


def advance(size: int) -> None:
    """Tells this process's `progress` how much more was read."""
    if progress:
        progress(size)


progress: Callable[[int], None] | None = None  # set in each process by what runs it


class Block(PipelineStep):
    """Counts documents and bytes in and out, and the seconds of its own work."""

    type = "maxlite"

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Does a task's share, as datatrove asks for it.

        Args:
          data: the documents that come from the block before.
          rank: of the task, from 0.
          world_size: how many tasks there are.
        """
        raise NotImplementedError

    def count(self, label: str, value: float) -> None:
        """Adds to one of the task's counts."""
        if value:
            self.stat_update(label, value=value, unit="batch")


def for_task(block: PipelineStep) -> PipelineStep:
    """A block with counts of its own, which shares all else with those of other tasks."""
    other = copy(block)
    other.stats = Stats(str(block))
    return other


class Read(Block):
    """Reads the corpus, a shard a task.

    Args:
      shards: the parts of each.
      stamps: of each part, in the same order (`cleaning.stamp`).
    """

    def __init__(self, shards: Sequence[Sequence[Part]], stamps: Sequence[Sequence[str]]):
        super().__init__("read")
        self.shards, self.stamps = shards, stamps
        names = [part.name for parts in shards for part in parts]  # addresses, too
        common = os.path.commonprefix([min(names), max(names)])  # noqa: RUF071
        self._folder = common.rfind("/") + 1

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        began = time.perf_counter()
        for batch in _batches(self._documents(rank)):
            self.count("seconds", time.perf_counter() - began)
            self.count("documents_out", len(batch))
            self.count("bytes_out", _size([d.text for d in batch]))
            yield from batch
            began = time.perf_counter()

    def _documents(self, rank: int) -> Iterator[Document]:
        invalid = 0

        def skipped(number: int) -> None:
            nonlocal invalid
            invalid += number

        for part, before in zip(self.shards[rank], self.stamps[rank], strict=True):
            if stamp(part) != before:
                raise InputError(f"{part.name} has changed since the cleaning began; begin it anew")
            where = f"{part.name[self._folder :]}:{getattr(part, 'start', 0)}"
            with exactly(part.size, advance) as moved:
                for i, text in enumerate(part.read(moved, skipped)):
                    yield Document(text, f"{where}:{i}")
        self.count("documents_in", invalid)
        self.count("dropped/not UTF-8", invalid)


class ReadShard(Block):
    """Reads the shards that an earlier pass has written; a shard without documents has no file."""

    def __init__(self, folder: Path):
        super().__init__("read shard")
        self.folder = folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        path = self.folder / SHARD.format(rank)
        if not path.exists():
            return
        with sources.readable(path), sources.Lines(path, advance) as lines:
            for line in lines:
                record = json.loads(line)
                yield Document(record["text"], record["id"])


class Apply(Block):
    """Takes a step with each document, and keeps what it drops aside in a folder if asked to."""

    def __init__(self, step: Step | Corpuswide, dropped: Path | None = None):
        super().__init__(step.name)
        self.step, self.dropped = step, dropped

    def results(self, texts: Sequence[str], start: int, rank: int) -> list[Result]:
        """What becomes of the documents from number `start` on of the shard."""
        return self.step.apply(texts)

    def _alone(self, start: int, rank: int, i: int, text: str) -> list[Result]:
        return self.results([text], start + i, rank)

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        self.step.opened()
        aside = Write(self.dropped) if self.dropped else None
        start = 0
        for batch in _batches(data):
            began = time.perf_counter()
            with blaming(self.name, batch, partial(self._alone, start, rank)):
                results = self.results([document.text for document in batch], start, rank)
            self.count("seconds", time.perf_counter() - began)
            start += len(batch)
            yield from self._kept(batch, results, aside, rank)
        if aside:
            aside.close()

    def _kept(
        self,
        batch: Sequence[Document],
        results: Sequence[Result],
        aside: "Write | None",
        rank: int,
    ) -> Iterator[Document]:
        kept: list[Document] = []
        before = [document.text for document in batch]
        changed = 0
        for document, (text, reason) in zip(batch, results, strict=True):
            if reason:
                self.count(f"dropped/{reason}", 1)
                self.count(f"dropped_bytes/{reason}", _size([document.text]))
                if aside:
                    document.metadata["reason"] = reason
                    aside.write(document, rank)
                continue
            changed += text != document.text
            document.text = text
            kept.append(document)
        self.count("documents_in", len(batch))
        self.count("bytes_in", _size(before))
        self.count("documents_out", len(kept))
        self.count("bytes_out", _size([document.text for document in kept]))
        self.count("changed", changed)
        yield from kept


class Judge(Apply):
    """Takes a corpus-wide step whose verdicts are there."""

    def __init__(self, step: Corpuswide, verdicts: Path, dropped: Path | None = None):
        super().__init__(step, dropped)
        self.verdicts = verdicts

    def results(self, texts: Sequence[str], start: int, rank: int) -> list[Result]:
        assert isinstance(self.step, Corpuswide)
        return self.step.judge(texts, arrays.load(self.verdicts, rank), start)


class Foreign(Block):
    """Takes one of datatrove's own blocks, and counts around it."""

    def __init__(self, block: PipelineStep):
        super().__init__(named(block))
        self.block = block

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        waited = 0.0
        last: list[Document] = []

        def entering() -> Iterator[Document]:
            nonlocal waited
            began = time.perf_counter()
            for document in data:
                waited += time.perf_counter() - began
                last[:] = [document]
                self.count("documents_in", 1)
                self.count("bytes_in", _size([document.text]))
                yield document
                began = time.perf_counter()

        began = time.perf_counter()
        spent = 0.0
        with blaming(self.name, last, lambda i, text: None):
            for document in deepcopy(self.block).run(entering(), rank, world_size):
                spent += time.perf_counter() - began
                self.count("documents_out", 1)
                self.count("bytes_out", _size([document.text]))
                yield document
                began = time.perf_counter()
        self.count("seconds", spent - waited)


class Sign(Block):
    """Writes the signatures of a corpus-wide step, and lets documents pass."""

    def __init__(self, step: Corpuswide, folder: Path):
        super().__init__(step.name)
        self.step, self.folder = step, folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        self.step.opened()
        with arrays.Appended(self.folder, rank, like=self.step.sign([""])) as out:
            for batch in _batches(data):
                began = time.perf_counter()
                with blaming(self.name, batch, lambda i, text: self.step.sign([text])):
                    out.append(self.step.sign([document.text for document in batch]))
                self.count("seconds", time.perf_counter() - began)
                yield from batch


class Match(Block):
    """Compares the signatures of all shards, a part a task."""

    def __init__(self, step: Corpuswide, signatures: Path, shards: int, folder: Path):
        super().__init__(step.name)
        self.step, self.signatures, self.shards, self.folder = step, signatures, shards, folder

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        began = time.perf_counter()
        signed = [arrays.load(self.signatures, shard) for shard in range(self.shards)]
        arrays.save(self.folder, rank, self.step.match(rank, world_size, signed))
        self.count("seconds", time.perf_counter() - began)
        yield from ()


class Resolve(Block):
    """Writes the verdict on each shard; one task."""

    def __init__(
        self, step: Corpuswide, signatures: Path, shards: int, matches: Path, parts: int, to: Path
    ):
        super().__init__(step.name)
        self.step, self.signatures, self.shards = step, signatures, shards
        self.matches, self.parts, self.to = matches, parts, to

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        began = time.perf_counter()
        signed = [arrays.load(self.signatures, shard) for shard in range(self.shards)]
        matches = [arrays.load(self.matches, part) for part in range(self.parts)]
        for shard, verdict in enumerate(self.step.resolve(signed, matches)):
            arrays.save(self.to, shard, verdict)
        self.count("seconds", time.perf_counter() - began)
        yield from ()


class Write(JsonlWriter):
    """Writes documents as {"text", "id"} and, of one that is dropped, its "reason".

    What datatrove's blocks note of a document is for those that come after them in the same pass.
    """

    def __init__(self, folder: Path):
        super().__init__(str(folder), "${rank}.jsonl", compression="zstd")

    def _default_adapter(self, document: Document) -> dict[str, Any]:
        said = {"text": document.text, "id": document.id}
        return said | {k: v for k, v in document.metadata.items() if k == "reason"}


def _size(texts: Sequence[str]) -> int:
    return len("".join(texts).encode("utf-8", "surrogatepass"))


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    return batches(documents, _BATCH_CHARS, _BATCH, lambda document: len(document.text))
