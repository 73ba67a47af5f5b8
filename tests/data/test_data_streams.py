import gzip
import json
import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.data.parts import text_parts
from maxlite.data.sources import documents
from maxlite.data.streams import open_bytes, packing
from maxlite.errors import InputError

SKIPPABLE = (0x184D2A50).to_bytes(4, "little") + (3).to_bytes(4, "little") + b"abc"


def nothing(number):
    pass


def write(path, data):
    path.write_bytes(data)
    return path


def test_names_say_how_files_are_packed(tmp_path):
    names = {"a.txt": "", "a.txt.gz": "gzip", "A.JSONL.ZST": "zstd", "zst": ""}
    assert {name: packing(tmp_path / name) for name in names} == names


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 400), st.booleans())
@settings(max_examples=100, deadline=None)
def test_frames_of_zstd_follow_one_another(tmp_path_factory, chunks, size, checksum):
    pack = zstandard.ZstdCompressor(write_checksum=checksum).compress
    packed = SKIPPABLE.join(pack(chunk) for chunk in chunks)
    path = write(tmp_path_factory.mktemp("zst") / "a.zst", packed)
    told, found = [], []
    with open_bytes(path, told.append) as file:
        while piece := file.read(size):
            found.append(piece)
    assert b"".join(found) == b"".join(chunks)
    assert sum(told) == len(packed)


def test_long_windows_and_much_from_little(tmp_path):
    """As `zstd --long=31` writes; a megabyte of one letter is a hundred bytes."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    data = os.urandom(1000) + b"a" * 10**6
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    path = write(tmp_path / "a.zst", writer.compress(data) + writer.flush())
    with open_bytes(path, nothing) as file:
        assert file.read() == data


@pytest.mark.parametrize("name", ["a.txt.zst", "a.jsonl.zst"])
def test_documents(name, tmp_path):
    texts = ["one", "둘\u2028", "three"] * 9000
    lines = texts if name == "a.txt.zst" else [json.dumps({"text": text}) for text in texts]
    path = write(tmp_path / name, zstandard.compress("\n".join(lines).encode()))
    read = []
    assert list(documents(path, advance=read.append)) == texts
    assert sum(read) == path.stat().st_size
    (part,) = text_parts([path], size=10)  # packed files stay whole
    assert list(part.read(nothing, nothing)) == texts


@pytest.mark.parametrize(("suffix", "kind"), [("gz", "gzip"), ("zst", "zstd")])
def test_damaged_files_are_named(suffix, kind, tmp_path):
    path = tmp_path / f"a.txt.{suffix}"
    text = os.urandom(5000).hex().encode()
    whole = gzip.compress(text) if kind == "gzip" else zstandard.compress(text)
    for data in (whole[:-9], whole[: len(whole) // 2], b"plain text", whole + b"plain text"):
        with pytest.raises(InputError, match=rf"a\.txt\.{suffix} is a damaged {kind} file: \w+"):
            list(documents(write(path, data)))
    assert list(documents(write(path, b""))) == []
    assert list(documents(write(path, whole))) == [text.decode()]
