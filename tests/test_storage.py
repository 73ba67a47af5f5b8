import hashlib
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from maxlite.config import Source
from maxlite.data.parts import text_parts
from maxlite.data.sources import content_hash, documents, expand
from maxlite.errors import InputError
from maxlite.storage import (
    Url,
    cache_folder,
    files,
    found,
    is_url,
    place,
    read_ranges,
    relative,
    remove_tree,
    sha256,
    within,
)


@pytest.fixture
def bucket(request):
    """A folder of this test's own in memory, as an address; gone afterwards."""
    system = fsspec.filesystem("memory")
    root = f"/{request.node.name}"
    yield Url(f"memory:/{root}")
    if system.exists(root):
        system.rm(root, recursive=True)


def test_folders_are_used_as_those_of_a_disk_are(bucket, tmp_path):
    for folder in (bucket, tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("run.json", "deep/a.txt", "deep/er/b.txt"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(name.encode())
        assert folder.exists() and folder.is_dir() and not (folder / "none").exists()
        assert {p.name for p in folder.iterdir()} == {"run.json", "deep"}
        assert [relative(f, folder) for f in files(folder)] == [
            "deep/a.txt", "deep/er/b.txt", "run.json"
        ]  # fmt: skip
        assert found(folder, "*.json") == [folder / "run.json"]
        assert read_ranges(folder / "run.json", [0, 4], [3, 8]) == [b"run", b"json"]
        assert sha256(folder / "run.json") == hashlib.sha256(b"run.json").hexdigest()
        assert (folder / "run.json").read_text() == "run.json"
        (folder / "deep").rename(folder / "deeper")
        (folder / "run.json").unlink()
        assert [relative(f, folder) for f in files(folder)] == ["deeper/a.txt", "deeper/er/b.txt"]
        remove_tree(folder / "deeper")
        assert files(folder) == []
    assert list((bucket / "gone").iterdir()) == []
    remove_tree(bucket / "gone")  # as a folder in an object store has no end of its own


def test_a_new_file_is_new(bucket):
    (bucket / "lock").write_bytes(b"mine", new=True)
    with pytest.raises(FileExistsError):
        (bucket / "lock").write_bytes(b"yours", new=True)
    assert (bucket / "lock").read_bytes() == b"mine"


def test_places_noted_beside_others(bucket, tmp_path):
    assert (
        within(tmp_path, "base") == tmp_path / "base" and within(bucket, "base") == bucket / "base"
    )
    for folder in (tmp_path, bucket):
        assert within(folder, "/models/m") == Path("/models/m")
        assert within(folder, "gs://b/m") == Url("gs://b/m")
    assert place("gs://b/m/") == Url("gs://b/m") and place(bucket) is bucket


def put(url, data):
    data = data.encode() if isinstance(data, str) else data
    fsspec.filesystem("memory").pipe(url.address.removeprefix("memory:/"), data)
    return url


def test_what_is_an_address(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/a.txt") == tmp_path / "a.txt"
    assert place("gs://b/a.txt") == Url("gs://b/a.txt")
    assert [is_url(n) for n in ("s3://b", "a+b.c://x", "C:/x", "/a//b", "://x", "9p://x")] == [
        True, True, False, False, False, False
    ]  # fmt: skip


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("MAXLITE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MAXLITE_CACHE", "~/other")
    assert cache_folder() == tmp_path / "other"
    monkeypatch.delenv("MAXLITE_CACHE")
    assert cache_folder() == tmp_path / ".cache" / "maxlite"
    monkeypatch.setenv("MAXLITE_CACHE", "gs://bucket/cache")
    with pytest.raises(InputError, match=r"gs://bucket/cache is an address, .*set it to a folder"):
        cache_folder()


def test_as_much_of_a_path_as_is_needed(bucket):
    url = put(bucket / "deep" / "a.txt", "one\ntwo\n")
    assert url.name == "a.txt" and url.parent == bucket / "deep" and url.absolute() is url
    assert url.is_file() and not url.is_dir() and bucket.is_dir() and not bucket.is_file()
    assert url.stat().st_size == 8 and url.read_bytes() == b"one\ntwo\n"
    assert url.read_ranges([0, 4], [3, 7]) == [b"one", b"two"]
    with url.open() as file:
        assert file.read() == b"one\ntwo\n"
    put(bucket / "deep" / "b", "x")
    assert (bucket / "deep").sizes() == {"a.txt": 8, "b": 1}
    before = url.stamp()
    assert url.stamp() == before
    put(url, "one\nTWO\n")
    assert url.stamp() != before
    names = ["a-b/c", "a/b", "a/b/c", "a"]
    assert [u.address for u in sorted(Url(f"m://{n}") for n in names)] == [
        "m://a", "m://a/b", "m://a/b/c", "m://a-b/c"
    ]  # fmt: skip


def test_files_are_found_and_sorted_as_paths_are(bucket, tmp_path):
    names = ["b/x.txt", "b-c/x.txt", "a.txt", "b/deep/y.jsonl"]
    for name in names:
        put(bucket / name, "x")
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    found = expand(Source(f"{bucket}/**/*.*"))
    local = [str(p.relative_to(tmp_path)) for p in expand(Source(f"{tmp_path}/**/*.*"))]
    assert [u.address.partition(f"/{bucket.name}/")[2] for u in found] == local
    assert sorted(local) != local  # by folders, not by letters
    assert expand(Source(f"{bucket}/a.txt")) == [bucket / "a.txt"]
    odd = put(bucket / "part[1].txt", "x")
    assert expand(Source(str(odd))) == [odd]
    with pytest.raises(InputError, match=r"no file matches .*none\*"):
        expand(Source(f"{bucket}/none*"))
    with pytest.raises(InputError, match="it names a folder"):
        expand(Source(str(bucket / "b")))
    put(bucket / "notes.json", "{}")
    with pytest.raises(InputError, match=r"notes\.json is of a kind that can't be read"):
        expand(Source(f"{bucket}/*"))


def test_text_is_read_as_from_a_file(bucket, tmp_path):
    text = "one\r\n\n둘 two\n" * 2000 + "last"
    local = tmp_path / "a.txt"
    local.write_bytes(text.encode())
    url = put(bucket / "a.txt", text)
    assert content_hash(url) == content_hash(local)
    read = []
    assert list(documents(url, advance=read.append)) == list(documents(local))
    assert sum(read) == url.stat().st_size
    nothing = lambda number: None  # noqa: E731
    for size in (1000, 10**6):
        parts = text_parts([url], size=size)
        assert [p.size for p in parts] == [p.size for p in text_parts([local], size=size)]
        assert [d for p in parts for d in p.read(nothing, nothing)] == list(documents(local))
    put(url, b"fine\n" * 500 + b"\xff\n")
    with pytest.raises(InputError, match=r"a\.txt, line 501: not valid UTF-8"):
        list(text_parts([url], size=900)[-1].read(nothing, nothing))


# --- what goes wrong -----------------------------------------------------------------------------


class Failing(MemoryFileSystem):
    """Fails as clients of object storage do: with exceptions of their own."""

    protocol = "failing"

    class Refused(Exception):
        pass

    def _fail(self, *args, **kwargs):
        raise self.Refused("403: no access\nwith details")

    info = open = cat_file = glob = ls = isfile = _fail


@pytest.mark.parametrize(
    "use",
    [
        lambda url: expand(Source("failing://b/*.txt")),
        lambda url: content_hash(url),
        lambda url: list(documents(url)),
        lambda url: text_parts([url]),
        lambda url: url.read_ranges([0], [1]),
    ],
)
def test_what_a_library_raises_is_one_sentence(use):
    fsspec.register_implementation("failing", Failing, clobber=True)
    with pytest.raises(InputError, match=r"^failing://b/\S+ cannot be read: 403: no access$"):
        use(Url("failing://b/a.txt"))


def test_what_cannot_be_reached():
    fsspec.register_implementation("absent", "absentfs.System", errtxt="Install it", clobber=True)
    for address, message in (
        ("absent://b/*.txt", r"absent://b/\*\.txt can only be read with the package absentfs, .*"
         r"\(Install it\): pip install absentfs"),
        ("nosuch://b/a.txt", "nosuch://b/a.txt cannot be read: Protocol not known: nosuch"),
        ("memory://a::memory://b.txt", "chains addresses"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            expand(Source(address))
    with pytest.raises(InputError, match=r"gone\.txt cannot be read: there is no such file"):
        list(documents(Url("memory://gone.txt")))
