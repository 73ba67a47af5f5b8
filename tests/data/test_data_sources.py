import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from maxlite.config import Source
from maxlite.data.sources import content_hash, documents, expand
from maxlite.errors import InputError


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def table(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def test_expand_sorts_and_recurses(tmp_path, monkeypatch):
    names = ["b.txt", "a.txt", "deep/er/c.jsonl.gz", "deep/d.PARQUET"]
    for name in names:
        write(tmp_path / name, "x")
    found = expand(Source(f"{tmp_path}/**/*.*"))
    assert [str(p.relative_to(tmp_path)) for p in found] == sorted(names)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand(Source("~/*.txt")) == [tmp_path / "a.txt", tmp_path / "b.txt"]
    odd = write(tmp_path / "part[1].txt", "x")
    assert expand(Source(str(odd))) == [odd]


@pytest.mark.parametrize(
    ("glob", "message"),
    [
        ("nothing*.txt", r"no file matches .*nothing\*\.txt"),
        ("folder", "it names a folder, add /"),
        ("ko.tokens", "it names a folder of tokens: name the text"),
        ("*.tokens", r"one such folder without \* or \?"),
        ("*", r"notes\.json is of a kind that can't be read .*\.txt, \.txt\.gz, \.txt\.zst, "),
    ],
)
def test_expand_refuses(glob, message, tmp_path):
    write(tmp_path / "notes.json", "{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "ko.tokens").mkdir()
    write(tmp_path / "ko.tokens" / "meta.json", "{}")
    with pytest.raises(InputError, match=message):
        expand(Source(f"{tmp_path}/{glob}"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_are_kept_as_they_are(name, tmp_path):
    text = "\ufeffone\r\n\n  two \u2028 three\x0b\x85\t\r\n \u3000 \nfour\r five\n\ufeffsix\nlast"
    path = write(tmp_path / name, text)
    expected = ["one", "  two \u2028 three\x0b\x85\t", "four\r five", "\ufeffsix", "last"]
    assert list(documents(path)) == expected


def test_whole_files(tmp_path):
    path = write(tmp_path / "a.txt", "\ufeffone\r\n\n two\n")
    assert list(documents(path, txt="file")) == ["one\r\n\n two\n"]
    assert list(documents(write(tmp_path / "b.txt", "\n \n"), txt="file")) == []
    assert list(documents(write(tmp_path / "c.txt", ""))) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_jsonl(name, tmp_path):
    texts = ["one\ntwo", "  ", "세\r\n", "\U0001f642"]
    lines = [json.dumps({"id": 1, "body": t}, ensure_ascii=i % 2 == 0) for i, t in enumerate(texts)]
    path = write(tmp_path / name, "\ufeff" + "\n\n".join(lines))
    assert list(documents(path, field="body")) == ["one\ntwo", "세\r\n", "\U0001f642"]


def test_parquet(tmp_path):
    path = table(tmp_path / "a.parquet", text=["one\n", "", "둘", "three", "4"], id=[1, 2, 3, 4, 5])
    assert list(documents(path)) == ["one\n", "둘", "three", "4"]
    encoded = pyarrow.array(["x", "y", "x"]).dictionary_encode()
    assert list(documents(table(tmp_path / "b.parquet", text=encoded))) == ["x", "y", "x"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl"])
def test_progress_counts_the_files_bytes(name, tmp_path):
    line = '{"text": "%s"}\n'
    path = write(tmp_path / name, "".join(line % i for i in range(50000)))
    read = []
    assert len(list(documents(path, advance=read.append))) == 50000
    assert sum(read) == path.stat().st_size
    parquet = table(tmp_path / "p.parquet", text=["a"] * 5000)
    read = []
    list(documents(parquet, advance=read.append))
    assert 0.99 * parquet.stat().st_size <= sum(read) <= parquet.stat().st_size


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.txt",
            b"one\ntwo\nthr\xffee\n",
            r"a\.txt, line 3: not valid UTF-8 .*0xff",
        ),
        ("a.txt", "글\n".encode("utf-16"), "line 1: not valid UTF-8"),
        ("a.txt", "\n글\n".encode("cp949"), "line 2: not valid UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', "line 2: not valid UTF-8"),
        ("a.jsonl", '{"text": "x"}\n\n{"text": "y"\n', "line 3: not a JSON object"),
        ("a.jsonl", '["x"]\n', "line 1: expected a JSON object, found list"),
        ("a.jsonl", '{"body": "x", "id": 3}\n', "line 1: no field 'text' .*'body', 'id'"),
        ("a.jsonl", '{"text": "x"}\n{"text": null}\n', "line 2: 'text' is not text but NoneType"),
        ("a.jsonl", '{"text": 12}\n', "line 1: 'text' is not text but int"),
        ("a.jsonl", '{"text": "a\\ud83d"}\n', "line 1: 'text' holds a lone surrogate"),
        ("a.parquet", "not one", r"a\.parquet is not a parquet file"),
        ("a.parquet", "", r"a\.parquet is not a parquet file"),
    ],
)
def test_bad_content_is_named(name, data, message, tmp_path):
    with pytest.raises(InputError, match=message):
        list(documents(write(tmp_path / name, data)))


def test_bad_content_in_whole_files_and_archives(tmp_path):
    path = write(tmp_path / "a.txt", b"one\ntwo\nthr\xe9\n")
    with pytest.raises(InputError, match="line 3: not valid UTF-8"):
        list(documents(path, txt="file"))
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "x"}\n' * 1000)[:-9])
    with pytest.raises(InputError, match=r"b\.jsonl\.gz is a damaged gzip file"):
        list(documents(path))
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match=r"b\.jsonl\.gz is a damaged gzip file"):
        list(documents(path))


def test_bad_parquet_columns(tmp_path):
    with pytest.raises(InputError, match=r"no column 'text' \(it has 'body'\)"):
        list(documents(table(tmp_path / "a.parquet", body=["x"])))
    with pytest.raises(InputError, match="row 3: 'text' is not text but NoneType"):
        list(documents(table(tmp_path / "b.parquet", text=["x", "y", None])))
    with pytest.raises(InputError, match="row 1: 'text' is not text but int"):
        list(documents(table(tmp_path / "c.parquet", text=[1])))


def test_content_hash(tmp_path):
    a, b = write(tmp_path / "a.txt", "same"), write(tmp_path / "b.txt", "same")
    assert content_hash(a) == content_hash(b) != content_hash(write(tmp_path / "c.txt", "Same"))
    with pytest.raises(InputError, match=r"gone\.txt cannot be read"):
        content_hash(tmp_path / "gone.txt")
