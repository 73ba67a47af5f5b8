"""tools.clean_corpus as a user runs it, with the configs that are shipped."""

import json
import random
import signal

import pytest

pytest.importorskip("datatrove")

from commands import call, run, start, strike

PLACES = "서울 부산 대구 인천 광주 대전 울산 수원 창원 고양 용인 성남".split()
THINGS = "영화 책 음악 경치 음식 날씨 사람들 거리 시장 바다".split()
SAID = "정말 좋았다|생각보다 별로였다|다시 보고 싶다|오래 기억에 남았다|조금 아쉬웠다".split("|")


def sentence(i):
    place, thing, said = PLACES[i % 12], THINGS[i // 12 % 10], SAID[i // 120 % 5]
    name = "".join(random.Random(i).choices("가나다라마바사아자차카타파하", k=12))
    return f"{place}에서 본 {name} {thing}은 {i}번째로 {said}. {PLACES[i * 7 % 12]}보다 낫다."


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """1,500 plain lines, and some that the shipped config has something to say about."""
    lines = [sentence(i) for i in range(1500)]
    lines[100] = "짧다"
    lines[200] = "This line is in another language, and long enough to be noticed."
    lines[300] = lines[50]
    lines[400] = lines[60].replace(".", "!!")
    lines[500] = lines[500] + " 연락은 kim.cheolsu@example.com 으로 주세요."
    lines[600] = lines[600].encode().decode("latin-1")
    lines[700] = f"<p>{lines[700]}</p><br/>"
    folder = tmp_path_factory.mktemp("raw")
    (folder / "raw.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "raw.txt"


def cleaned(out):
    import zstandard

    return {
        json.loads(line)["text"]
        for path in sorted(out.glob("*.zst"))
        for line in zstandard.open(path, "rt", encoding="utf-8")
    }


@pytest.fixture(scope="module")
def korean(raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("korean") / "clean"
    told = out.parent / "told.json"
    config = ("--config=korean.py", f"--config.text={raw}", f"--config.out={out}")
    outcome = call("tools.clean_corpus", *config, f"--json={told}", "--config.workers=1")
    assert outcome.status == 0, outcome.err
    return out, outcome, json.loads(told.read_text())


def test_korean_text_is_cleaned_as_the_shipped_config_says(raw, korean):
    out, _, _ = korean
    left = cleaned(out)
    plain = {sentence(i) for i in range(1500)}
    assert len(left) == 1496  # without the short, the foreign and two that are there already
    assert left - plain == {f"{sentence(500)} 연락은 [이메일] 으로 주세요."}
    assert sentence(600) in left and sentence(700) in left


def test_the_funnel_is_a_table_a_file_and_a_page(korean):
    out, outcome, told = korean
    assert told == json.loads((out / "funnel.json").read_text())
    lines = {line.split("  ")[0]: line for line in outcome.out.splitlines()}
    assert "1,500" in lines["read"] and "1,496" in lines["mask"]
    reasons = {reason for step in told["steps"] for reason in step["reasons"]}
    assert {"too short", "exact duplicate"} <= reasons
    page = (out / "report.html").read_text()
    assert "<svg" in page and "near duplicates" in page and "://" not in page.split("<body")[0]


def test_cleaned_text_is_read_by_the_other_tools(korean, tiny_tokenizer, tmp_path):
    out, _, _ = korean
    told = tmp_path / "counts.json"
    where = (f"--tokenizer={tiny_tokenizer}", f"--text={out}/*.zst", f"--json={told}")
    assert call("tools.count_tokens", *where).status == 0
    assert json.loads(told.read_text())["documents"] == 1496


def test_a_model_says_which_texts_are_strange(raw, tiny_folder, tmp_path):
    model = tiny_folder()
    (tmp_path / "best.py").write_text(
        "from maxlite.corpus import BestPredicted, Cleaning\n"
        "def get_config():\n"
        f"    return Cleaning(steps=(BestPredicted(model={str(model)!r}, keep=0.5),))\n"
    )
    short = tmp_path / "short.txt"
    short.write_text("".join(raw.read_text().splitlines(keepends=True)[:40]))
    where = (f"--config={tmp_path}/best.py", f"--config.text={short}")
    outcome = run("tools.clean_corpus", *where, f"--config.out={tmp_path}/best")
    assert outcome.status == 0, outcome.err
    assert len(cleaned(tmp_path / "best")) == 20


def test_a_killed_cleaning_goes_on_to_the_same_end(tmp_path):
    lines = [f"{sentence(i)} {sentence(i * 31 % 90_000)}" for i in range(30_000)]
    (tmp_path / "raw.txt").write_text("\n".join(lines), "utf-8")
    common = ("--config=korean.py", f"--config.text={tmp_path}/raw.txt", "--config.shard_mb=1")
    out, work = f"--config.out={tmp_path}/killed", tmp_path / "killed.work"
    begun = start("tools.clean_corpus", *common, out, "--config.workers=2")
    (killed,) = strike(signal.SIGKILL, begun, lambda: any(work.glob("passes/*/completions/*")))
    assert killed.status == -signal.SIGKILL and not (tmp_path / "killed").exists()
    again = run("tools.clean_corpus", *common, out, "--config.workers=1")
    assert again.status == 0 and "going on with" in again.err
    whole = run("tools.clean_corpus", *common, f"--config.out={tmp_path}/whole")
    assert whole.status == 0
    assert cleaned(tmp_path / "killed") == cleaned(tmp_path / "whole")
    assert len(cleaned(tmp_path / "whole")) > 10_000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "raw.txt", "whole"]


OWN = """
from dataclasses import dataclass

from datatrove.pipeline.filters import LambdaFilter

from maxlite.corpus import Cleaning, Filter, NearDuplicates

WORD = "부산"

@dataclass
class Without(Filter):
    word: str = WORD

    def reason(self, text):
        return f"has {{self.word}}" if self.word in text and {test} else ""

def get_config():
    steps = (Without(), NearDuplicates(), LambdaFilter(lambda document: WORD not in document.text))
    return Cleaning(steps=steps, shard_mb=1)
"""


def test_steps_of_ones_own_are_written_in_the_config(tmp_path):
    lines = [f"{sentence(i)} {sentence(i * 31 % 90_000)}" for i in range(9_000)]
    (tmp_path / "raw.txt").write_text("\n".join(lines), "utf-8")
    (tmp_path / "own.py").write_text(OWN.format(test="True"))
    common = (f"--config={tmp_path}/own.py", f"--config.text={tmp_path}/raw.txt")
    for workers in (1, 2):
        out = (f"--config.out={tmp_path}/{workers}", f"--config.workers={workers}")
        outcome = call("tools.clean_corpus", *common, *out)
        assert outcome.status == 0 and "  has 부산" in outcome.out, outcome.err
    expected = {line for line in lines if "부산" not in line}
    assert cleaned(tmp_path / "1") == cleaned(tmp_path / "2") <= expected
    assert len(cleaned(tmp_path / "1")) > 0.9 * len(expected)


def test_begun_work_is_not_gone_on_with_by_other_code(raw, tmp_path):
    where = (f"--config={tmp_path}/own.py", f"--config.text={raw}", f"--config.out={tmp_path}/o")

    def ran(test, *more):
        own = OWN.format(test=test).replace(
            "(Without(), NearDup", "(NearDuplicates(), Without(), NearDup"
        )
        (tmp_path / "own.py").write_text(own)
        return call("tools.clean_corpus", *where, "--config.workers=1", *more)

    assert "fails at document raw.txt:0:1: ZeroDivisionError" in ran("1 / 0").sentence
    assert "begun with other settings, code or files (steps); go back" in ran("True").sentence
    assert ran("True", "--overwrite").status == 0


def test_parallel_text_becomes_paragraphs(tmp_path):
    pairs = [f"Sentence number {i} of the book.\t책의 {i}번째 문장입니다." for i in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(pairs) + "\n", "utf-8")
    where = (f"--config.text={tmp_path}/pairs.tsv", f"--config.out={tmp_path}/out")
    assert call("tools.clean_corpus", "--config=parallel.py", *where).status == 0
    left = cleaned(tmp_path / "out")
    assert len(left) == 10
    assert {text.startswith("Sentence") for text in left} == {True, False}
    assert any("Sentence number 0 of the book. Sentence number 1" in text for text in left)


def test_help_tells_of_every_key():
    told = call("tools.clean_corpus", "--help").out
    assert "config.slurm.partition" in told.replace("  slurm.", "config.slurm.")
    assert "keep_dropped" in told and "--[no]overwrite" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no --config=FILE was given; configs/corpus/korean.py is one to start from"),
        (("--config=korean.py",), "config key 'text' is empty; give --config.text=..."),
        (("--config=korean.py", "--config.worker=2"), "did you mean 'workers'?"),
        (("--config=korean.py", "--config.steps=x"), "'steps' is set in a config file"),
        (("--config=korean.py", "--config.workers=many"), "'workers' must be int, not 'many'"),
        (("--config=continue.py",), "must return a maxlite.corpus.cleaning.Cleaning, not Config"),
    ],
)
def test_a_command_that_cannot_work_is_refused(arguments, said):
    assert said in call("tools.clean_corpus", *arguments).sentence
