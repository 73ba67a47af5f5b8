"""Lists of layers, as published and as asked for, and their picture."""

import pytest

from maxlite.errors import InputError
from maxlite.surgery import layers


def test_dus_is_solars_list():
    assert layers.dus(32, 8) == [*range(24), *range(8, 32)]
    assert layers.dus(5, 1) == [0, 1, 2, 3, 1, 2, 3, 4]
    assert layers.dus(4, 3) == [0, 3]


def test_interlocked_is_iduss_lists():
    assert layers.interlocked(32, 8, 24) == layers.dus(32, 8)
    by_eight = [*range(16), *range(8, 24), *range(16, 32)]
    assert layers.interlocked(32, 8, 8) == by_eight
    by_one = (
        "0,8,1,9,2,10,3,11,4,12,5,13,6,14,7,15,8,16,9,17,10,18,11,19,12,20,13,21,14,22,15,23,"
        "16,24,17,25,18,26,19,27,20,28,21,29,22,30,23,31"
    )
    assert layers.interlocked(32, 8, 1) == [int(i) for i in by_one.split(",")]
    for group in (1, 2, 3, 4, 6, 8, 12, 24):
        found = layers.interlocked(32, 8, group)
        assert len(found) == 48 and sorted(found) == sorted(by_eight)


def test_llama_pro_inserts_after_each_group():
    sources, inserted = layers.llama_pro(32, 8)
    assert inserted == [4, 9, 14, 19, 24, 29, 34, 39]
    assert sources[:10] == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7] and len(sources) == 40
    assert [i for at, i in enumerate(sources) if at not in inserted] == [*range(32)]
    assert all(sources[at] == sources[at - 1] for at in inserted)
    assert layers.llama_pro(2, 1) == ([0, 1, 1], [2])
    assert layers.llama_pro(2, 2) == ([0, 0, 1, 1], [1, 3])


def test_a_list_can_be_written_out():
    assert layers.parse("0-23,8-31", 32) == layers.dus(32, 8)
    assert layers.parse("0,0,1,1", 2) == [0, 0, 1, 1]
    assert layers.parse(" 3 , 0 - 1 ", 4) == [3, 0, 1]
    assert layers.parse("2-2", 3) == [2]


def test_settings_choose_a_list():
    assert layers.chosen(32, method="dus", drop=8) == (layers.dus(32, 8), [])
    by_eight = layers.chosen(32, method="interlocked", drop=8, group=8)
    assert by_eight == (layers.interlocked(32, 8, 8), [])
    assert layers.chosen(4, method="llama_pro", add=2) == ([0, 1, 1, 2, 3, 3], [2, 5])
    assert layers.chosen(4, layers="0-1") == ([0, 1], [])


BAD = {
    "drop is 32, but of 32 layers at least 1 and at most 31": {"method": "dus", "drop": 32},
    "drop is -1, but of 32 layers": {"method": "dus", "drop": -1},
    "group 7 does not divide the 24 layers that are left of each copy (32 - 8)": {
        "method": "interlocked",
        "drop": 8,
        "group": 7,
    },
    "group 25 does not divide": {"method": "interlocked", "drop": 8, "group": 25},
    "group -4 does not divide": {"method": "interlocked", "drop": 8, "group": -4},
    "add 5 does not divide the 32 layers": {"method": "llama_pro", "add": 5},
    "add -8 does not divide": {"method": "llama_pro", "add": -8},
    "add 64 does not divide": {"method": "llama_pro", "add": 64},
    "method dus needs drop": {"method": "dus"},
    "method interlocked needs drop and group": {"method": "interlocked"},
    "method interlocked needs group": {"method": "interlocked", "drop": 8},
    "method llama_pro needs add": {"method": "llama_pro"},
    "method dus has no use for add": {"method": "dus", "drop": 8, "add": 8},
    "method dus has no use for group": {"method": "dus", "drop": 8, "group": 8},
    "method llama_pro has no use for drop and group": {
        "method": "llama_pro",
        "add": 8,
        "drop": 1,
        "group": 1,
    },
    "method is 'solar', but it must be one of dus, interlocked, llama_pro": {"method": "solar"},
    "there is no method: give method (dus, interlocked, llama_pro), layers or mergekit": {},
    "drop, group needs a method": {"drop": 8, "group": 8},
    "so method, drop beside it must be left out": {
        "layers": "0-23,8-31",
        "method": "dus",
        "drop": 8,
    },
    "names layer 32, but the model has 32, counted from 0": {"layers": "0-32"},
    "names layer 99999999999": {"layers": "0-99999999999"},
    "has '5-3', which runs backwards": {"layers": "0-4,5-3"},
    "has '' where a layer or a range is expected: write it like 0-23,8-31": {"layers": "0-3,"},
    "has '0..3' where a layer": {"layers": "0..3"},
    "has '-1' where a layer": {"layers": "-1"},
    "has '٣' where a layer": {"layers": "٣"},
}


@pytest.mark.parametrize("sentence", BAD)
def test_what_cannot_be_a_list_is_refused(sentence):
    with pytest.raises(InputError) as refused:
        layers.chosen(32, **BAD[sentence])
    assert sentence in str(refused.value)


def of_one(sources):
    return [("", layer) for layer in sources]


def test_seams_are_where_a_layer_does_not_follow():
    assert layers.seams(of_one(layers.dus(32, 8))) == [24]
    assert layers.seams(of_one(layers.interlocked(32, 8, 8))) == [16, 32]
    assert len(layers.seams(of_one(layers.interlocked(32, 8, 1)))) == 47
    assert layers.seams(of_one(range(4))) == []
    assert layers.seams([("a", 0), ("a", 1), ("b", 2), ("b", 3)]) == [2]


def test_the_picture_shows_runs_and_seams():
    bars, runs = layers.picture(of_one(layers.dus(32, 8)), 32)
    assert bars == "▁▁▁▁▂▂▂▂▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆|▃▃▃▃▄▄▄▄▅▅▅▅▆▆▆▆▇▇▇▇████"
    assert runs == "0-23 | 8-31"
    sources, inserted = layers.llama_pro(4, 2)
    assert layers.picture(of_one(sources), 4, inserted)[1] == "0-1 | 1* 2-3 | 3*"
    assert layers.picture(of_one([0, 2, 0]), 3)[1] == "0 | 2 | 0"


def test_the_picture_fits_a_terminal():
    shown = layers.picture(of_one(layers.interlocked(32, 8, 1)), 32)
    assert max(map(len, shown)) <= 96 and len(shown) < 6
    assert " ".join(shown[1:]).split(" | ") == [str(i) for i in layers.interlocked(32, 8, 1)]
    assert max(map(len, layers.picture(of_one([*range(200)] * 2), 200))) <= 96


def test_the_picture_tells_models_apart():
    sources = [("org/one", 0), ("org/one", 1), ("two", 2), ("two", 3)]
    shown = layers.picture(sources, 4)
    assert shown[1:] == ["A:0-1 | B:2-3", "A: org/one", "B: two"]
