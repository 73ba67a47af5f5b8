import fsspec
import pytest

from maxlite import outputs, uploads
from maxlite.errors import InputError
from maxlite.storage import Url, files, relative


@pytest.fixture
def bucket(request):
    """A folder of this test's own in memory, as an address."""
    return Url(f"memory://{request.node.name}")


@pytest.fixture
def written(monkeypatch):
    """The names of the files that are put at an address, in order."""
    names, put = [], Url.put
    monkeypatch.setattr(Url, "put", lambda url, file: (names.append(url.name), put(url, file)))
    return names


def make(out, *names, last="config.json"):
    with outputs.new_folder(out, last=last) as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(name)
        assert not uploads.taken(out)  # nothing is there before all of it is made


def test_the_file_that_makes_a_folder_count_goes_last(bucket, written):
    out = bucket / "model"
    make(out, "config.json", "model.safetensors", "deep/a")
    assert written == ["a", "model.safetensors", "config.json"]
    assert [relative(f, out) for f in files(out)] == ["config.json", "deep/a", "model.safetensors"]
    assert uploads.taken(out)
    with pytest.raises(InputError, match="model exists, and a folder at an address cannot be exch"):
        make(out, "config.json")


def test_what_fails_leaves_nothing(bucket, monkeypatch):
    out = bucket / "model"
    with pytest.raises(ZeroDivisionError), outputs.new_folder(out):
        raise ZeroDivisionError
    assert not out.exists()
    put = Url.put

    def fails(url, file):
        if url.name == "config.json":
            raise InputError("no way there")
        put(url, file)

    monkeypatch.setattr(Url, "put", fails)
    with pytest.raises(InputError, match="no way there"):
        make(out, "config.json", "a")
    assert not out.exists()


def test_what_a_killed_process_left_gives_way(bucket, monkeypatch):
    out = bucket / "model"
    monkeypatch.setattr(Url, "remove_tree", lambda url: None)  # as if there were no time for it
    monkeypatch.setattr(Url, "put", lambda url, file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(out, "config.json")
    monkeypatch.undo()
    (out / "model.safetensors").write_bytes(b"half")
    assert out.exists() and not uploads.taken(out)
    make(out, "config.json")
    assert [f.name for f in files(out)] == ["config.json"] and uploads.taken(out)


def test_on_a_disk_what_exists_is_taken(tmp_path):
    assert uploads.taken(tmp_path) and not uploads.taken(tmp_path / "new")


def test_files_grow_here_and_are_copied_whole(bucket, written):
    (bucket / "metrics.jsonl").write_bytes(b"1\n")
    mirror = uploads.Mirror(bucket, "metrics.jsonl", "none")
    mirror.copy()
    assert written == []  # nothing has grown
    with (mirror.path / "metrics.jsonl").open("a") as file:
        file.write("2\n")
    mirror.copy(every=1000)
    assert (bucket / "metrics.jsonl").read_bytes() == b"1\n"
    (mirror.path / "board").mkdir()
    (mirror.path / "board" / "events").write_bytes(b"x")
    mirror.copy()
    assert (bucket / "metrics.jsonl").read_bytes() == b"1\n2\n"
    assert (bucket / "board" / "events").read_bytes() == b"x"
    mirror.copy()
    assert written == ["events", "metrics.jsonl"]


def test_on_a_disk_they_grow_in_place(tmp_path):
    mirror = uploads.Mirror(tmp_path, "metrics.jsonl")
    assert mirror.path == tmp_path
    mirror.copy()


@pytest.fixture(autouse=True)
def _emptied():
    yield
    fsspec.filesystem("memory").store.clear()
