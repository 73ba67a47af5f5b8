"""A token cache: a folder of documents as ids, or the address of one.

    meta.json                what is there, and which tokenizer made it; written last
    tokens-00000.bin, …      uint16 or uint32, [T] in all: the ids of all documents end to end,
                             without BOS and EOS; each file is a shard, and no document is in two
    offsets.bin              uint64 [N + 1]: where each document begins among all ids, and T
    bytes.bin                uint64 [N]: length of each raw document in UTF-8 bytes
    chars.bin                uint64 [N]: length of each raw document in characters
    hashes.bin               uint64 [N]: a hash of each document's text
    learnt-00000.bin, …      of conversations alone: uint8, one for each id, 1 where it is learnt;
                             bytes and characters are then those of the responses, and the ids have
                             what the chat template puts before and after

All are little-endian and without a header. In a folder they are mapped into memory; at an address
the small ones are fetched whole, and of the ids only what is asked for.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maxlite.data.sources import META, SUFFIXES
from maxlite.errors import InputError
from maxlite.storage import Place, Url, place
from maxlite.tokenizer import Tokenizer

FORMAT = 2
COLUMNS = ("offsets", "bytes", "chars", "hashes")
_DTYPES = {name: np.dtype(name) for name in ("<u2", "<u4")}
_BYTE = np.dtype("u1")
_AHEAD = 1 << 19  # ids: whoever reads on and on gets so many at a time
_GAP = 1 << 14  # ids that are sooner read over than asked for around


def shard_name(number: int) -> str:
    """The file of a shard's ids."""
    return f"tokens-{number:05d}.bin"


def learnt_name(number: int) -> str:
    """The file of what is learnt of a shard's ids."""
    return shard_name(number).replace("tokens", "learnt")


class Tokens:
    """The ids of all shards end to end; of them only what is asked for is read.

    `tokens[start:stop]` and `tokens[positions]` are arrays of ids, as they are of an array.

    Args:
      shards: arrays [T], or what behaves like them, at least one.
    """

    def __init__(self, shards: Sequence["np.ndarray | Distant"]):
        self._shards = shards
        self._ends: list[int] = np.cumsum([len(shard) for shard in shards]).tolist()
        self.dtype = shards[0].dtype

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def nbytes(self) -> int:
        """Of all ids together."""
        return len(self) * self.dtype.itemsize

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            assert step == 1
            return self._range(start, max(start, stop))
        if not at.size:
            return np.zeros(at.shape, self.dtype)
        first, last = bisect_right(self._ends, at.min()), bisect_right(self._ends, at.max())
        if first == last:
            return self._shards[first][at - self._begin(first)]
        found = np.empty(at.shape, self.dtype)
        which = np.searchsorted(self._ends, at, "right")
        for k in range(first, last + 1):
            chosen = which == k
            if chosen.any():
                found[chosen] = self._shards[k][at[chosen] - self._begin(k)]
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=bool(copy))

    def _range(self, start: int, stop: int) -> np.ndarray:
        k = bisect_right(self._ends, start)
        found = []
        while start < stop:
            until, begin = min(stop, self._ends[k]), self._begin(k)
            found.append(self._shards[k][start - begin : until - begin])
            start, k = until, k + 1
        return found[0] if len(found) == 1 else np.concatenate([np.zeros(0, self.dtype), *found])

    def _begin(self, shard: int) -> int:
        return self._ends[shard - 1] if shard else 0


class Distant:
    """The ids of a shard at an address.

    Rows of training come in random order, so each is fetched by itself, and never more than it
    needs; who reads on from where the last slice ended gets more at a time.

    Args:
      url: the file.
      size: ids in it.
      dtype: theirs.
    """

    def __init__(self, url: Url, size: int, dtype: np.dtype):
        self._url, self._size, self.dtype = url, size, dtype
        self._held = 0, np.zeros(0, dtype)  # where the last slices were read from

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        if isinstance(at, slice):
            start, stop, _ = at.indices(self._size)
            return self._range(start, stop)
        cuts = np.flatnonzero(np.abs(np.diff(at)) > _GAP) + 1
        runs = np.split(at, cuts)
        starts = [int(run.min()) for run in runs]
        found = self._fetch(starts, [int(run.max()) + 1 for run in runs])
        parts = zip(found, runs, starts, strict=True)
        return np.concatenate([ids[run - start] for ids, run, start in parts])

    def _range(self, start: int, stop: int) -> np.ndarray:
        first, held = self._held
        if first <= start and stop <= first + len(held):
            return held[start - first : stop - first]
        going_on = first <= start < first + len(held) + _AHEAD
        until = max(stop, min(start + _AHEAD, self._size)) if going_on else stop
        (ids,) = self._fetch([start], [until])
        self._held = start, ids  # at once, for other threads
        return ids[: stop - start]

    def _fetch(self, starts: list[int], stops: list[int]) -> list[np.ndarray]:
        size = self.dtype.itemsize
        found = self._url.read_ranges([size * at for at in starts], [size * at for at in stops])
        for data, start, stop in zip(found, starts, stops, strict=True):
            if len(data) != size * (stop - start):
                raise InputError(f"{self._url} is shorter than it was when it was opened")
        return [np.frombuffer(data, self.dtype) for data in found]


@dataclass
class TokenCache:
    """Documents as ids; the arrays are described at the top of this module.

    Attributes:
      path: its folder or address.
      content: hash (hex) of all documents in their order and of the tokenizer: the same text has
        the same, whatever files it came from and wherever its tokens are kept.
      rows: 1 + the largest token id that occurs.
      tokens, offsets, bytes, chars, hashes: see above.
      tokenizer: the fingerprint of the tokenizer that made it.
      made_by: where that was.
      shards: files of tokens.
      learnt: of conversations, uint8 [T], 1 where a token is learnt; None: all are.
      left_out: conversations that were not taken.
    """

    path: Place
    content: str
    rows: int
    tokens: Tokens | np.ndarray
    offsets: np.ndarray
    bytes: np.ndarray
    chars: np.ndarray
    hashes: np.ndarray
    tokenizer: str = ""
    made_by: str = field(default="", compare=False)
    shards: int = 1
    learnt: Tokens | np.ndarray | None = None
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.hashes)

    def check(self, tokenizer: Tokenizer) -> None:
        """Refuses any tokenizer but the one that made these tokens.

        Raises:
          InputError: it is another one.
        """
        if self.tokenizer != tokenizer.fingerprint:
            raise InputError(
                f"{self.path} was made with the tokenizer {self.made_by} ({self.tokenizer[:12]}), "
                f"not with {tokenizer.path} ({tokenizer.fingerprint[:12]}); name the one that made "
                "it, or the text itself"
            )


def names_cache(name: str) -> bool:
    """Whether what a source names is the folder of a token cache, or its address, and not text."""
    where = place(name)
    if isinstance(where, Url) and ("*" in name or where.name.lower().endswith(SUFFIXES)):
        return False
    return (where / META).is_file()


def open_cache(where: Place) -> TokenCache:
    """Opens the token cache in a folder, or at an address.

    Raises:
      InputError: there is none, it is of another format, or a part of it is missing.
    """
    advice = "make it anew with tools.tokenize_corpus"
    if not where.is_dir() or not (where / META).is_file():
        raise InputError(f"{where} is not a whole token cache: it has no {META}; {advice}")
    try:
        meta = json.loads((where / META).read_bytes())
        if meta["format"] != FORMAT:
            raise InputError(f"{where} is a token cache of format {meta['format']}; {advice}")
        number, dtype = meta["documents"], _DTYPES[meta["dtype"]]
        shards = {shard_name(i): int(tokens) for i, tokens in enumerate(meta["shards"])}
        lengths = {f"{name}.bin": number + (name == "offsets") for name in COLUMNS}
        expected = {name: 8 * n for name, n in lengths.items()}
        expected |= {name: n * dtype.itemsize for name, n in shards.items()}
        chats = {learnt_name(i): int(n) for i, n in enumerate(meta["shards"]) if "left_out" in meta}
        expected |= chats
        about = {key: str(meta[key]) for key in ("content", "tokenizer", "made_by")}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{where} is not a whole token cache: {META} is damaged; {advice}"
        ) from None
    sizes = _sizes(where)
    for name, size in expected.items():
        if name not in sizes or sizes[name] not in (size, None):
            found = f"has {sizes[name]} bytes, not {size}" if name in sizes else "is missing"
            raise InputError(f"{where} is not a whole token cache: {name} {found}; copy it anew")
    return TokenCache(
        path=where,
        content=about["content"],
        rows=int(meta["rows"]),
        tokens=Tokens([_shard(where / name, size, dtype) for name, size in shards.items()]),
        **{name: _column(where / f"{name}.bin") for name in COLUMNS},
        tokenizer=about["tokenizer"],
        made_by=about["made_by"],
        shards=len(shards),
        learnt=Tokens([_shard(where / n, size, _BYTE) for n, size in chats.items()])
        if chats
        else None,
        left_out=int(meta.get("left_out", 0)),
    )


def _sizes(where: Place) -> dict[str, int | None]:
    if isinstance(where, Url):
        return where.sizes()
    return {file.name: file.stat().st_size for file in where.iterdir()}


def _shard(file: Place, size: int, dtype: np.dtype) -> np.ndarray | Distant:
    return Distant(file, size, dtype) if isinstance(file, Url) else _mapped(file, dtype)


def _column(file: Place) -> np.ndarray:
    if isinstance(file, Url):
        return np.frombuffer(file.read_bytes(), "<u8")
    return _mapped(file, np.dtype("<u8"))


def _mapped(file: Path, dtype: np.dtype) -> np.ndarray:
    if not file.stat().st_size:  # which cannot be mapped
        return np.zeros(0, dtype)
    # A plain array over the map: slices of np.memmap itself are several times slower.
    return np.asarray(np.memmap(file, dtype, "r"))
