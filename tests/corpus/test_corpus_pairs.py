"""Pairs: the same paragraphs from every kind of file, and nothing paired that does not belong."""

import gzip
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.pairs import Pairs
from maxlite.errors import InputError

PAIRS = [(f"The {n} th sentence, {{first}}.", f"{n} 번째 문장: 50% {{}}\\") for n in range(60)]


def ignored(_):
    pass


def read(how, pattern):
    skipped = []
    texts = [
        text for part in how.parts(str(pattern)) for text in part.read(ignored, skipped.append)
    ]
    return texts, sum(skipped)


def refused(how, pattern):
    with pytest.raises(InputError) as error:
        read(how, pattern)
    return str(error.value)


def lines(path, rows):
    path.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return path


def as_tsv(path, pairs=PAIRS):
    return lines(path, ("\t".join(pair) for pair in pairs))


def as_jsonl(path, pairs=PAIRS):
    return lines(path, (json.dumps({"id": 1, "ko": ko, "en": en}) for en, ko in pairs))


def as_files(folder, pairs=PAIRS):
    for end, side in zip(("en", "ko"), zip(*pairs, strict=True), strict=True):
        lines(folder / f"text.{end}", side)
    return folder / "text.{en,ko}"


def test_every_kind_of_file_gives_the_same(tmp_path):
    wanted = read(Pairs(), as_files(tmp_path))
    assert len(wanted[0]) == len(PAIRS) and wanted[1] == 0
    assert read(Pairs(), as_jsonl(tmp_path / "a.jsonl")) == wanted
    assert read(Pairs(fields=(1, 2)), as_tsv(tmp_path / "a.tsv")) == wanted
    named = [("ko", "n", "en"), *((ko, str(n), en) for n, (en, ko) in enumerate(PAIRS))]
    assert read(Pairs(), as_tsv(tmp_path / "named.tsv", named)) == wanted
    assert read(Pairs(fields=(3, 1)), as_tsv(tmp_path / "b.tsv", named[1:])) == wanted
    for name in ("a.tsv", "a.jsonl", "text.en", "text.ko"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + data))
    assert read(Pairs(fields=(1, 2)), tmp_path / "a.tsv.gz") == wanted
    assert read(Pairs(), tmp_path / "a.jsonl.gz") == wanted
    assert read(Pairs(), tmp_path / "text.{en,ko}.gz") == wanted


def test_parquet_gives_the_same(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"ko": [ko for _, ko in PAIRS], "en": [en for en, _ in PAIRS]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    for how in (Pairs(), Pairs(group=4)):
        assert read(how, tmp_path / "a.parquet") == read(how, as_files(tmp_path))
    assert "no column 'de'" in refused(Pairs(fields=("en", "de")), tmp_path / "a.parquet")
    table = pyarrow.table({"ko": ["가", None], "en": ["a", "b"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "a.parquet, row 2: 'ko' is empty" in refused(Pairs(), tmp_path / "a.parquet")


def test_directions_are_those_of_the_text_alone(tmp_path):
    texts, _ = read(Pairs(), as_tsv(tmp_path / "a.tsv", [("en", "ko"), *PAIRS]))
    first = {text: text.startswith("The") for text in texts}
    assert 15 < sum(first.values()) < 45
    half, _ = read(Pairs(), as_jsonl(tmp_path / "b.jsonl", PAIRS[::-2]))
    assert set(half) < set(texts)
    other, _ = read(Pairs(seed=1), tmp_path / "a.tsv")
    assert 15 < len(set(other) - set(texts)) < 45
    assert {text for text, en in first.items() if en} == set(texts) & set(
        read(Pairs(swap=0), tmp_path / "a.tsv")[0]
    )
    assert not set(read(Pairs(swap=1), tmp_path / "a.tsv")[0]) & {t for t in texts if first[t]}


def test_the_share_that_is_swapped(tmp_path):
    many = as_tsv(tmp_path / "a.tsv", [(f"a{n}", f"가{n}") for n in range(4000)])
    for swap in (0.1, 0.5):
        texts, _ = read(Pairs(fields=(1, 2), swap=swap), many)
        share = sum(text[0] == "가" for text in texts) / len(texts)
        assert share == pytest.approx(swap, abs=4 * (swap * (1 - swap) / 4000) ** 0.5)


def test_a_template_with_the_names_of_languages(tmp_path):
    how = Pairs(
        template="{{{first_name}}} {first}\n→ {second_name}: {second}", names=("영어", "한")
    )
    texts, _ = read(how, as_jsonl(tmp_path / "a.jsonl"))
    en, ko = PAIRS[0]
    assert texts[0] in (f"{{영어}} {en}\n→ 한: {ko}", f"{{한}} {ko}\n→ 영어: {en}")
    assert len({text[:4] for text in texts}) == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40))
def test_groups_hold_every_pair_once_and_in_order(tmp_path_factory, group, count):
    file = as_jsonl(tmp_path_factory.getbasetemp() / "groups.jsonl", PAIRS[:count])
    texts, _ = read(Pairs(group=group, template="{first}|{second}", between=" & "), file)
    assert len(texts) == -(-count // group)
    found = []
    for text in texts:
        sides = sorted((side.split(" & ") for side in text.split("|")), reverse=True)
        assert len(sides[0]) == len(sides[1])
        found += zip(*sides, strict=True)
    assert found == PAIRS[:count]


def test_parts_go_to_other_processes_and_tell_what_they_read(tmp_path):
    as_files(tmp_path)
    (part,) = pickle.loads(pickle.dumps(Pairs(group=2).parts(f"{tmp_path}/*.{{en,ko}}")))
    read_ = []
    assert len(list(part.read(read_.append, ignored))) == 30
    assert part.name == str(part.path) == f"{tmp_path}/text.en"
    assert part.size == sum(read_) == sum(f.stat().st_size for f in tmp_path.iterdir())


def test_files_are_found_in_their_order(tmp_path):
    for name in ("b", "a", "[c]"):
        (tmp_path / name).mkdir()
        as_files(tmp_path / name, PAIRS[:2])
        as_jsonl(tmp_path / name / "x.jsonl", PAIRS[:3])
    names = [part.name for part in Pairs().parts(f"{tmp_path}/*/text.{{en,ko}}")]
    assert names == [f"{tmp_path}/{name}/text.en" for name in ("[c]", "a", "b")]
    names = [part.name for part in Pairs().parts(f"{tmp_path}/**/*.jsonl")]
    assert names == [f"{tmp_path}/{name}/x.jsonl" for name in ("[c]", "a", "b")]
    assert "no file matches" in refused(Pairs(), tmp_path / "z.{en,ko}")
    assert "no file matches" in refused(Pairs(), tmp_path / "*.jsonl")
    (tmp_path / "a" / "text.ko").unlink()
    said = refused(Pairs(), tmp_path / "*" / "text.{en,ko}")
    assert said == f"{tmp_path}/a/text.en has no other half: there is no {tmp_path}/a/text.ko"
    assert "names each file twice" in refused(Pairs(), tmp_path / "b" / "text.{en,en}")
    assert "must not have" in refused(Pairs(), tmp_path / "b" / "text.{en,ko}*")
    assert "as NAME.{en,ko}" in refused(Pairs(), tmp_path / "b" / "text.en")


def test_pairs_that_lack_a_side(tmp_path):
    pairs = [*PAIRS[:2], ("", "가"), PAIRS[3], ("a", " \u3000"), PAIRS[5]]
    kinds = {
        as_tsv(tmp_path / "a.tsv", pairs): "a.tsv, line 3: column 1",
        as_jsonl(tmp_path / "a.jsonl", pairs): "a.jsonl, line 3: 'en'",
        as_files(tmp_path, pairs): "text.en, line 3: ",
    }
    for file, where in kinds.items():
        fields = (1, 2) if file.suffix == ".tsv" else ("en", "ko")
        said = refused(Pairs(fields=fields), file)
        assert where in said and "is empty" in said and "skip_incomplete" in said
        texts, skipped = read(Pairs(fields=fields, skip_incomplete=True, swap=0), file)
        assert skipped == 2 and texts == ["\n".join(pairs[i]) for i in (0, 1, 3, 5)]


def test_what_is_no_pair_is_refused(tmp_path):
    def tsv(*rows, fields=(1, 2)):
        return refused(Pairs(fields=fields), lines(tmp_path / "a.tsv", rows))

    def jsonl(*rows):
        return refused(Pairs(), lines(tmp_path / "a.jsonl", rows))

    assert "a.tsv, line 2 has 3 columns, where the first has 2" in tsv("a\tb", "a\tb\tc")
    assert "a.tsv, line 3 has 1 columns" in tsv("a\tb", "a\tb", "a")
    assert "line 1 has 2 columns and no number 3" in tsv("a\tb", fields=(1, 3))
    assert "line 1 names no column 'en'; set fields" in tsv("a\tb", fields=("en", "ko"))
    assert "line 1 has several columns named 'en'" in tsv("en\tko\ten", fields=("en", "ko"))
    assert "a.jsonl, line 2: no field 'ko' (it has 'en')" in jsonl(
        '{"en": "a", "ko": "b"}', '{"en": "a"}'
    )
    assert "line 1: 'ko' is not text but int" in jsonl('{"en": "a", "ko": 3}')
    assert "line 1: 'ko' holds a lone surrogate" in jsonl('{"en": "a", "ko": "\\ud800"}')
    assert "line 1: not a JSON object" in jsonl("{")
    assert "line 1: expected a JSON object, found list" in jsonl("[]")
    as_files(tmp_path)
    for short, long in (("en", "ko"), ("ko", "en")):
        lines(tmp_path / f"short.{short}", "ab")
        lines(tmp_path / f"short.{long}", "abc")
        said = refused(Pairs(), tmp_path / "short.{en,ko}")
        assert said.startswith(f"{tmp_path}/short.{long}, line 3 has no counterpart: ")
        assert said.endswith(f"short.{short} has fewer lines")
    (tmp_path / "short.ko").write_bytes(b"a\n\xff\n")
    assert "short.ko, line 2: not valid UTF-8" in refused(Pairs(), tmp_path / "short.{en,ko}")
    (tmp_path / "cut.ko.gz").write_bytes(gzip.compress(bytes(9999))[:-9])
    (tmp_path / "cut.en.gz").write_bytes(gzip.compress(b"a\n" * 9999))
    assert "cut.ko.gz is a damaged gzip file" in refused(Pairs(), tmp_path / "cut.{en,ko}.gz")


def test_bad_settings_are_refused():
    for wrong, said in (
        ({"fields": ("en", "en")}, "two names"),
        ({"fields": ("en", 2)}, "two names"),
        ({"fields": ("a", "b", "c")}, "two names"),
        ({"fields": (0, 1)}, "count from 1"),
        ({"template": "{first}"}, "both sides"),
        ({"template": "{first} {second} {third}"}, "nothing but"),
        ({"template": "{first:>9} {second}"}, "nothing but"),
        ({"template": "{first.x} {second}"}, "nothing but"),
        ({"template": "{first} {second"}, "brace"),
        ({"group": 0}, "at least 1"),
        ({"swap": 1.5}, "from 0 to 1"),
    ):
        with pytest.raises(InputError, match=said) as error:
            Pairs(**wrong).check()
        assert str(error.value).startswith(f"Pairs({next(iter(wrong))}=")
    with pytest.raises(InputError, match=r"Pairs\(names=.*names of both"):
        Pairs(template="{first_name}: {first}, {second}").check()
