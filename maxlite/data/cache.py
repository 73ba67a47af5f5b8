"""Text tokenised once, kept in a folder named by everything its tokens depend on.

The name is a hash of the files' contents, the tokenizer and the way files are cut into documents,
so a cache is never stale and may be deleted at any time. Arrays are little-endian files without a
header, mapped into memory:

    tokens   uint16 or uint32 [T]   all documents' ids end to end, without BOS and EOS
    offsets  uint64 [N + 1]         where each document begins in tokens, and T
    bytes    uint64 [N]             length of each raw document in UTF-8 bytes
    chars    uint64 [N]             length of each raw document in characters
    hashes   uint64 [N]             a hash of each document's text
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from maxlite.config import Data, Source
from maxlite.console import say
from maxlite.data import sources
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer

T = TypeVar("T")
U = TypeVar("U")

FORMAT = 1
_BATCH_CHARS = 1 << 18  # encoded at a time: enough for the threads; tokens take 100 bytes each then
_BATCH_DOCUMENTS = 8192
_ARRAYS = {"tokens": "", "offsets": "<u8", "bytes": "<u8", "chars": "<u8", "hashes": "<u8"}


@dataclass
class TokenCache:
    """A tokenised source; the arrays are described at the top of this module.

    Attributes:
      path: the cache's folder, whose name is `key`.
      key: hash (hex) of contents, tokenizer and cutting.
      rows: 1 + the largest token id that occurs.
    """

    path: Path
    key: str
    rows: int
    tokens: np.ndarray
    offsets: np.ndarray
    bytes: np.ndarray
    chars: np.ndarray
    hashes: np.ndarray

    def __len__(self) -> int:
        return len(self.hashes)


def open_cache(path: Path, fingerprint: str) -> TokenCache:
    """The cache in a folder, which some source was tokenised into.

    Raises:
      InputError: there is none, a part of it is missing, or a tokenizer of another fingerprint made
        it.
    """
    cache = _open(path)
    if cache is None:
        raise InputError(
            f"{path} is not a whole token cache; name a folder in {default_folder() / 'tokens'}"
        )
    made_by = json.loads((path / "meta.json").read_bytes()).get("tokenizer")
    if made_by != fingerprint:
        raise InputError(
            f"{path} was made with another tokenizer, or does not say with which; name the one "
            "that made it, or use the text itself"
        )
    return cache


def default_folder() -> Path:
    """Where caches are kept if the config is silent: $MAXLITE_CACHE or ~/.cache/maxlite."""
    return Path(os.environ.get("MAXLITE_CACHE") or "~/.cache/maxlite").expanduser()


def tokenize(
    source: Source,
    tokenizer: Tokenizer,
    settings: Data,
    cache_dir: str | os.PathLike[str] = "",
    progress: bool = True,
) -> TokenCache:
    """Returns the tokens of a source, from the cache or by making it.

    Memory doesn't grow with the corpus, only with its longest document. Of several processes that
    need the same cache, one makes it and the others wait.

    Args:
      source: its `glob` and `field` are read.
      tokenizer: encodes the documents.
      settings: its `txt` is read.
      cache_dir: folder for caches; empty: `default_folder()`.
      progress: show bars on stderr where it takes longer than two seconds.

    Raises:
      InputError: unreadable text, no document at all, or no place to write to.
    """
    files = sources.expand(source)
    seen = _stamps(files)
    key = _key(files, source.field, settings.txt, tokenizer, progress)
    root = (Path(cache_dir).expanduser() if cache_dir else default_folder()) / "tokens"
    try:
        root.mkdir(parents=True, exist_ok=True)
        path = root / key
        cache = _open(path)
        if cache is None:
            with _locked(root / f"{key}.lock", progress):
                cache = _open(path)  # another process may have made it meanwhile
                if cache is None:
                    _make(path, files, seen, source, settings.txt, tokenizer, progress)
                    cache = _open(path)
    except OSError as error:
        raise InputError(
            f"the token cache in {root} cannot be written: {error.strerror or error}; free some "
            "space there, or name another folder with data.cache or $MAXLITE_CACHE"
        ) from None
    if cache is None:
        raise InputError(f"the token cache {path} was damaged while it was made; start again")
    return cache


def _key(files: list[Path], field: str, txt: str, tokenizer: Tokenizer, progress: bool) -> str:
    total = sum(path.stat().st_size for path in files)
    parts = []
    with ThreadPoolExecutor() as pool, _bar(total, "reading", progress) as bar:
        for path, digest in zip(files, pool.map(sources.content_hash, files), strict=True):
            bar.update(path.stat().st_size)
            kind = sources.kind(path)
            packed = path.name.lower().endswith(".gz")
            parts.append([kind, packed, txt if kind == "txt" else field, digest])
    said = json.dumps([FORMAT, tokenizer.fingerprint, parts])
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def _stamps(files: list[Path]) -> list[tuple[int, int]]:
    return [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in files)]


def _open(path: Path) -> TokenCache | None:
    """The cache at a path, None if there is none or a part of it is missing."""
    try:
        meta = json.loads((path / "meta.json").read_bytes())
        if meta["format"] != FORMAT or meta["key"] != path.name:
            return None
        arrays = {}
        for name, dtype in meta["dtypes"].items():
            file = path / f"{name}.bin"
            if file.stat().st_size != meta["sizes"][name]:
                return None
            # A plain array over the map: slices of np.memmap itself are several times slower.
            arrays[name] = np.asarray(np.memmap(file, dtype, "r"))
        return TokenCache(path, meta["key"], meta["rows"], **arrays)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def _locked(path: Path, progress: bool) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if progress:
                say("waiting for another process that tokenises the same text")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(
    path: Path,
    files: list[Path],
    seen: list[tuple[int, int]],
    source: Source,
    txt: str,
    tokenizer: Tokenizer,
    progress: bool,
) -> None:
    """Writes a cache under a temporary name and renames it; the caller holds the lock."""
    for stale in path.parent.glob(f"{path.name}.tmp-*"):  # of processes that were killed
        shutil.rmtree(stale, ignore_errors=True)
    folder = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
    try:
        folder.mkdir()
        meta = _write(folder, files, source, txt, tokenizer, progress)
        if not meta["documents"]:
            raise InputError(f"{source.glob!r} holds no documents: there is no text in it")
        if not meta["tokens"]:
            raise InputError(f"{source.glob!r} holds no tokens: {tokenizer.path} drops all of it")
        if _stamps(files) != seen:  # then its name, made from the content before, would be a lie
            raise InputError(f"{source.glob!r} changed while it was read; start again")
        meta.update(format=FORMAT, key=path.name, files=[str(file) for file in files])
        meta.update(tokenizer=tokenizer.fingerprint)
        with (folder / "meta.json").open("w") as file:
            json.dump(meta, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(path, ignore_errors=True)  # a damaged one
        try:
            os.rename(folder, path)
        except OSError:
            # Where locks don't reach (some network file systems) another process can be first.
            if _open(path) is None:
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(
    folder: Path, files: list[Path], source: Source, txt: str, tokenizer: Tokenizer, progress: bool
) -> dict:
    dtypes = {**_ARRAYS, "tokens": "<u2" if tokenizer.rows <= 1 << 16 else "<u4"}
    rows = documents = tokens = 0
    total = sum(path.stat().st_size for path in files)
    with ExitStack() as stack:
        bar = stack.enter_context(_bar(total, "tokenising", progress))
        out = {n: stack.enter_context((folder / f"{n}.bin").open("wb", 1 << 20)) for n in dtypes}
        out["offsets"].write(bytes(8))
        texts = (t for f in files for t in sources.documents(f, source.field, txt, bar.update))
        for about, ids in _ahead(lambda b: (_measure(b), tokenizer.encode(b)), _batches(texts)):
            joined = np.concatenate(ids)
            out["tokens"].write(joined.astype(dtypes["tokens"]).tobytes())
            out["offsets"].write((tokens + np.cumsum([len(i) for i in ids], dtype="<u8")).tobytes())
            for name, column in zip(("bytes", "chars", "hashes"), about, strict=True):
                out[name].write(column.tobytes())
            tokens, documents = tokens + len(joined), documents + len(ids)
            rows = max(rows, int(joined.max(initial=-1)) + 1)
        for file in out.values():
            file.flush()
            os.fsync(file.fileno())
    return {
        "documents": documents,
        "tokens": tokens,
        "rows": rows,
        "dtypes": dtypes,
        "sizes": {name: (folder / f"{name}.bin").stat().st_size for name in dtypes},
    }


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARS or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ahead(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Like map, with some calls under way in threads while the caller works on a result."""
    threads = min(8, os.cpu_count() or 1)
    pending: deque[Future[U]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _measure(texts: list[str]) -> np.ndarray:
    """Bytes, characters and hash of each text, uint64 [3, N]."""
    raw = [text.encode("utf-8") for text in texts]
    hashes = b"".join([hashlib.blake2b(data, digest_size=8).digest() for data in raw])
    sizes = [[len(data) for data in raw], [len(text) for text in texts]]
    return np.concatenate([np.array(sizes, "<u8"), np.frombuffer(hashes, "<u8")[None]])


def _bar(total: int, what: str, progress: bool) -> tqdm:
    return tqdm(
        desc=what,
        total=total,
        unit="B",
        unit_scale=True,
        delay=2,
        disable=not progress,
        file=sys.stderr,
        leave=False,
    )
