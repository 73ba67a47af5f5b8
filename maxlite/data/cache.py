"""Text tokenised once, kept in a folder named by everything its tokens depend on.

The name is a hash of the files' contents, the tokenizer and the way files are cut into documents,
so a cache is never stale and may be deleted at any time. `maxlite.data.tokens` says what is in it.
"""

import hashlib
import json
import shutil
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from maxlite.config import Data, Source
from maxlite.data import sources
from maxlite.data.chat_templates import template
from maxlite.data.making import Making, locked, stamps
from maxlite.data.streams import packing
from maxlite.data.tokens import FORMAT, TokenCache, names_cache, open_cache
from maxlite.errors import InputError
from maxlite.storage import Place, cache_folder, place
from maxlite.tokenizer import Tokenizer

_WAITING = "waiting for another process that tokenises the same text"


def tokenize(
    source: Source, tokenizer: Tokenizer, settings: Data, progress: bool = True
) -> TokenCache:
    """Returns the tokens of a source, from the cache or by making it.

    A source that names a token cache itself, by its folder or address, is opened where it is. Large
    text is tokenised by several processes, so programs that call this need the usual guard
    `if __name__ == "__main__"`. Of several processes that need the same cache, one makes it and the
    others wait. Memory doesn't grow with the corpus, only with its longest document.

    Args:
      source: its `glob`, `field` and `template` are read.
      tokenizer: encodes the documents.
      settings: its `txt` is read.
      progress: show bars on stderr where it takes longer than two seconds.

    Raises:
      InputError: unreadable text, no document at all, or no place to write to.
    """
    if names_cache(source.glob):
        if source.template:
            raise InputError(
                f"{source.glob} is a folder of tokens, on which the template {source.template!r} "
                "comes too late: name the conversations themselves"
            )
        given = open_cache(place(source.glob))
        given.check(tokenizer)
        return given
    chat = template(source.template, tokenizer) if source.template else ""
    files = sources.expand(source)
    seen = stamps(files)
    key = _key(files, source.field, settings.txt, chat, tokenizer, progress)
    root = cache_folder() / "tokens"
    try:
        root.mkdir(parents=True, exist_ok=True)
        path = root / key
        cache = _open(path)
        if cache is None:
            with locked(root / f"{key}.lock", _WAITING if progress else ""):
                cache = _open(path)  # another process may have made it meanwhile
                if cache is None:
                    folder = path.with_name(f"{path.name}.tmp-{uuid.uuid4().hex}")
                    making = Making(
                        files,
                        seen,
                        tokenizer,
                        folder,
                        source.field,
                        settings.txt,
                        what=repr(source.glob),
                        template=chat,
                    )
                    _make(path, making, progress)
                    cache = _open(path)
    except OSError as error:
        raise InputError(
            f"the token cache in {root} cannot be written: {error.strerror or error}; free some "
            "space there, or name another folder with $MAXLITE_CACHE"
        ) from None
    if cache is None:
        raise InputError(f"the token cache {path} was damaged while it was made; start again")
    return cache


def _key(
    files: Sequence[Place], field: str, txt: str, chat: str, tokenizer: Tokenizer, progress: bool
) -> str:
    total = sum(path.stat().st_size for path in files)
    parts = []
    with ThreadPoolExecutor() as pool, _bar(total, "reading", progress) as bar:
        for path, digest in zip(files, pool.map(sources.content_hash, files), strict=True):
            bar.update(path.stat().st_size)
            kind = sources.kind(path, bool(chat))
            parts.append([kind, packing(path), txt if kind == "txt" else field, digest])
    said = json.dumps(
        [FORMAT, tokenizer.fingerprint, parts, *([chat, _settings(tokenizer)] if chat else [])]
    )
    return hashlib.sha256(said.encode()).hexdigest()[:40]


def _settings(tokenizer: Tokenizer) -> str:
    """A hash (hex) of all files by which `transformers` encodes conversations."""
    digest = hashlib.sha256()
    for name, file in sorted(tokenizer.files.items()):
        data = file if isinstance(file, bytes) else file.read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()


def _open(path: Path) -> TokenCache | None:
    """The cache at a path, None if there is none or a part of it is missing."""
    with suppress(InputError):
        return open_cache(path)
    return None


def _make(path: Path, making: Making, progress: bool) -> None:
    """Makes a cache under a temporary name and renames it; the caller holds the lock."""
    for stale in path.parent.glob(f"{path.name}.tmp-*"):  # of processes that were killed
        shutil.rmtree(stale, ignore_errors=True)
    advice = "tokenise the text first, with a low --workers of tools.tokenize_corpus"
    try:
        making.begin()
        with _bar(making.size, "tokenising", progress) as bar:
            making.write(making.shards, 0, lambda done, total: bar.update(done - bar.n), advice)
        try:
            making.join(path)
        except OSError:
            # Where locks don't reach (some network file systems) another process can be first.
            if _open(path) is None:
                raise
    finally:
        shutil.rmtree(making.folder, ignore_errors=True)


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
