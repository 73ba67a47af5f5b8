"""What a model is judged on, from a command line and from a run."""

import json

import numpy as np
import pytest

from maxlite.config import Data, Source
from maxlite.data.corpus import load_corpus
from maxlite.data.orders import write_order
from maxlite.data.sets import named_parts, rows, run_parts
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer


def test_files_are_named_and_grouped(tiny_text):
    parts = named_parts(f"en/a={tiny_text}/en.txt,xx={tiny_text}/xx.txt,en/b={tiny_text}/*.jsonl")
    files = [str(tiny_text / name) for name in ("en.txt", "xx.txt", "en.jsonl")]
    assert [(part.set, part.source.glob) for part in parts] == list(
        zip(("en/a", "xx", "en/b"), files, strict=True)
    )
    expected = {"en": ["en/a", "en/b"], "en/a": ["en/a"], "en/b": ["en/b"], "xx": ["xx"]}
    assert rows(parts) == expected
    assert list(rows(parts)) == ["en", "en/a", "en/b", "xx"]


def test_a_language_of_one_domain_and_files_without_names_have_one_row(tiny_text):
    parts = named_parts(f"{tiny_text}/en.txt,{tiny_text}/*.txt")
    assert list(rows(parts)) == [part.source.glob for part in parts] and len(parts) == 2
    parts = named_parts(f"en/a={tiny_text}/en.txt,en/a={tiny_text}/en.jsonl")
    assert rows(parts) == {"en/a": ["en/a"]} and len(parts) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ko={}/en.txt:3", "the weight 3"),
        ("a={}/en.txt,b={}/*.txt", "in the sets 'a' and 'b'"),
        ("en={}/en.txt,en/news={}/xx.txt", "set 'en' and domains of it"),
        ("en={}/no.txt", "no file matches"),
    ],
)
def test_what_cannot_be_judged_on(text, said, tiny_text):
    with pytest.raises(InputError, match=said):
        named_parts(text.format(*[tiny_text] * text.count("{}")))


def run_folder(tmp_path, tokenizer, train, evaluated, held_out):
    """What a run says of the text it reads and evaluates."""
    data = Data(train, eval=evaluated, held_out=held_out)
    corpus = load_corpus(data, tokenizer, 0, 32, 4, progress=False)
    (tmp_path / "run").mkdir()
    write_order(tmp_path / "run" / "order", corpus.file)
    said = {"config": {"data": {"eval": [vars(s) for s in evaluated], "txt": "line"}}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(said))
    return tmp_path / "run", corpus


def test_what_a_run_evaluates_is_found_with_any_tokenizer(tmp_path, tiny_text, tiny_tokenizer):
    tokenizer = load_tokenizer(tiny_tokenizer)
    train = (Source(str(tiny_text / "en.txt")), Source(str(tiny_text / "xx.txt"), name="other"))
    evaluated = (Source(str(tiny_text / "en.jsonl")),)
    run, corpus = run_folder(tmp_path, tokenizer, train, evaluated, 0.1)
    parts = run_parts(run)
    assert {part.set for part in parts} == corpus.evals.keys() == {"en", "other", "en-held-out"}
    for part in parts:
        ours, theirs = part.view(tokenizer, progress=False), corpus.evals[part.set]
        for one, other in zip(ours.documents(), theirs.documents(), strict=True):
            np.testing.assert_array_equal(one, other)
        another = load_tokenizer(tiny_tokenizer / "tokenizer.model")
        assert part.view(another, progress=False).bytes == theirs.bytes


def test_a_run_without_evaluation(tmp_path, tiny_text, tiny_tokenizer):
    train = (Source(str(tiny_text / "en.txt")),)
    run, _ = run_folder(tmp_path, load_tokenizer(tiny_tokenizer), train, (), 0.0)
    with pytest.raises(InputError, match="evaluates nothing: it has neither"):
        run_parts(run)
    (run / "run.json").write_text('{"kind": "import"}')
    with pytest.raises(InputError, match="evaluates nothing"):
        run_parts(run)
    (run / "run.json").write_text('{"config": {}}')
    with pytest.raises(InputError, match=r"run.json is damaged"):
        run_parts(run)
