"""What a config says of weights, and what of it is refused."""

import math

import pytest

from maxlite.errors import InputError
from maxlite.mixture import Source, awaits, is_read, listed, parsed_later, phases


def test_later_is_steps_and_weights():
    assert parsed_later([[10, 1], (20, 0.5)], "key") == ((10, 1.0), (20, 0.5))
    assert parsed_later((), "key") == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((1000, 0.5), "such as"),
        (((1000,),), "such as"),
        (((10.0, 0.5),), "such as"),
        (((True, 0.5),), "such as"),
        ((("10", 0.5),), "such as"),
        (((10, "0.5"),), "such as"),
        (((10, -0.5),), "at least 0"),
        (((10, math.nan),), "at least 0"),
        (((10, math.inf),), "at least 0"),
        ({10: 0.5}, "such as"),
        (None, "such as"),
        (((0, 0.5),), "ascending steps from 1"),
        (((20, 0.5), (10, 0.5)), "ascending steps"),
        (((10, 0.5), (10, 0.6)), "ascending steps"),
    ],
)
def test_what_is_no_change_of_weights_is_refused(value, said):
    with pytest.raises(InputError) as caught:
        parsed_later(value, "data.train.later")
    assert "'data.train.later'" in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        ("a/*.txt", (Source("a/*.txt"),)),
        ("a.txt:9,b.jsonl:0.5", (Source("a.txt", 9.0), Source("b.jsonl", 0.5))),
        ("ko=a/*.txt:9,en=b.txt", (Source("a/*.txt", 9.0, "ko"), Source("b.txt", 1.0, "en"))),
        ("gs://bucket/a.txt:2", (Source("gs://bucket/a.txt", 2.0),)),
        ("./lang=ko/*.txt", (Source("./lang=ko/*.txt"),)),
        ("a b/한:국.txt", (Source("a b/한:국.txt"),)),
    ],
)
def test_sources_as_a_command_line_has_them(text, found):
    assert listed(text) == found


def test_a_form_of_conversations_awaits_its_glob():
    assert awaits((Source(template="own"),)) and not awaits((Source("a.json", template="own"),))
    assert not awaits(()) and not awaits((Source(),)) and not awaits(None)


def test_phases_begin_where_any_weight_changes():
    several = [Source("a", 5.86, later=((30, 1.0),)), Source("b", later=((10, 0.0), (30, 2.0)))]
    assert phases(several) == [(0, (5.86, 1.0)), (10, (5.86, 0.0)), (30, (1.0, 2.0))]
    assert phases([Source("a", later=((10, 1.0), (20, 2.0)))]) == [(0, (1.0,)), (20, (2.0,))]


def test_what_is_read_at_all():
    assert is_read(Source("a")) and is_read(Source("a", 0.0, later=((9, 1.0),)))
    assert not is_read(Source("a", 0.0)) and not is_read(Source("a", 0.0, later=((9, 0.0),)))


def test_sources_of_a_command_line():
    assert listed("ko=a/*.txt:9,b.jsonl") == (Source("a/*.txt", 9.0, "ko"), Source("b.jsonl"))
    assert listed("") == ()
    assert listed("a/b=c.txt") == (Source("a/b=c.txt"),)
    assert listed("en/news=c.txt,./a/b=c.txt", domains=True) == (
        Source("c.txt", name="en/news"),
        Source("./a/b=c.txt"),
    )
