"""Configs of cleanings: what is refused, the shards, and which files must not be read."""

import os

import pytest

from maxlite.corpus.cleaning import Cleaning, Text, resolve, shards, stamp
from maxlite.corpus.filters import Length
from maxlite.corpus.masking import Mask
from maxlite.corpus.pairs import Pairs
from maxlite.corpus.repetition import Repetition
from maxlite.errors import InputError


def shared(folder, size, sizes, pattern="*.txt"):
    """The numbers of the files in each shard, of files with so many bytes."""
    for i, each in enumerate(sizes):
        (folder / f"{i}.txt").write_bytes(b"x" * each)
    config = Cleaning(text=f"{folder}/{pattern}", out=f"{folder}/out", shard_mb=size)
    return [[int(os.path.basename(part.name)[0]) for part in parts] for parts in shards(config)]


def test_small_files_share_a_shard_and_large_ones_are_divided(tmp_path):
    mb = 1 << 20
    sizes = [10, 20, mb - 30, 1, mb, 5, 2 * mb + 7, 3]
    assert shared(tmp_path, 1, sizes) == [[0, 1, 2], [3], [4], [5], [6], [6], [6, 7]]
    assert shared(tmp_path, 8, sizes) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert shared(tmp_path, 0, sizes)[0] == [0, 1, 2, 3, 4, 5]  # 4 MB at least


@pytest.mark.parametrize(
    ("text", "out", "finds"),
    [
        ("raw/*.jsonl.zst", "clean", False),
        ("raw/*.jsonl.zst", "raw/clean", False),
        ("raw/*.txt", "raw", False),
        ("raw/*", "raw", True),
        ("raw/*/*.zst", "raw/clean", True),
        ("raw/**/*.zst", "raw/deep/clean", True),
        ("raw/**", "raw/clean", True),
        ("raw/**/*.txt", "raw/clean", False),
        ("clean/0*.jsonl.zst", "clean", True),
        ("clean.work/*/*", "clean", True),
        ("clean/dropped/*/*", "clean", True),
        ("*/*.zst", "raw/clean", False),
    ],
)
def test_what_would_find_its_own_result_is_refused(tmp_path, monkeypatch, text, out, finds):
    monkeypatch.chdir(tmp_path)
    for name in ("raw/a.jsonl.zst", "raw/a.txt", "raw/deep/a.txt", "clean/dropped/x/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    config = resolve(Cleaning(text=text, out=out))
    if finds:
        with pytest.raises(InputError, match=r"would find what is written to .*, too; choose"):
            shards(config)
    else:
        assert shards(config)


def test_two_files_side_by_side_are_known_by_both(tmp_path):
    for end in ("en", "ko", "ja"):
        (tmp_path / f"a.{end}").write_text("one\n")
    globs = ",".join(f"{tmp_path}/a.{{en,{end}}}" for end in ("ko", "ja", "ko"))
    ((korean, japanese),) = shards(Cleaning(text=globs, out=f"{tmp_path}/out", read=Pairs()))
    before = stamp(korean), stamp(japanese)
    (tmp_path / "a.ko").write_text("one\ntwo\n")
    assert stamp(korean) != before[0] and stamp(japanese) == before[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": ("Length",)}, "'steps' holds 'Length', which is no step"),
        ({"executor": "cloud"}, "'executor' must be one of 'local', 'slurm', 'ray', not 'cloud'"),
        ({"workers": -1}, "'workers' must be at least 0"),
        ({"workers": "2"}, "'workers' must be int, not str"),
        ({"steps": (Length("9"),)}, r"'steps\[0\]\.min_chars' must be int, not str"),
        ({"steps": (Repetition(top=(2, 0.2)),)}, r"'steps\[0\]': Repetition cannot be so: "),
        ({"steps": (Mask(replacements=(("email",),)),)}, r"'steps\[0\]': Mask cannot be so: "),
        ({"read": "text"}, "'read' holds 'text', which is no reader"),
        ({"read": Text(txt=3)}, r"'read\.txt' must be str"),
        ({"text": ""}, r"'text' is empty; give --config\.text="),
        ({"out": ""}, r"'out' is empty; give --config\.out="),
        ({"text": "/nowhere/*.txt"}, "no file matches '/nowhere"),
    ],
)
def test_a_config_that_cannot_work_is_refused(tmp_path, settings, said):
    text = tmp_path / "raw.txt"
    text.touch()
    given = {"text": str(text), "out": str(tmp_path / "out"), **settings}
    with pytest.raises(InputError, match=said):
        shards(resolve(Cleaning(**given)))
