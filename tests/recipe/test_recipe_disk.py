"""How much disk stages need, from what is known of them, and a disk that has too little."""

from collections import namedtuple

import pytest

from maxlite.config import Checkpoint, Config
from maxlite.errors import InputError
from maxlite.recipe import disk

Sized = namedtuple("Sized", "config trainable parameters")  # what of a plan is looked at


def stage(trainable, parameters, keep=2):
    return Sized(Config(checkpoint=Checkpoint(keep=keep)), trainable, parameters)


def test_each_stage_keeps_checkpoints_of_what_trains_and_folders_hold_the_model():
    assert disk.needed({}) == 0
    one = {"one": stage(100, 1000)}
    assert disk.needed(one) == (2 + 1) * 12 * 100 + 2 * 2 * 1000
    both = one | {"two": stage(10, 3000, keep=1)}
    assert disk.needed(both) == 3 * 12 * 100 + 2 * 12 * 10 + 2 * 2 * 3000
    assert disk.needed(both, folders=1) == disk.needed(both) - 2 * 3000


def test_what_has_no_room_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    out = tmp_path / "new" / "run"
    asked = []

    def usage(folder):
        asked.append(folder)
        return namedtuple("Usage", "free")(2 << 30)

    monkeypatch.setattr("shutil.disk_usage", usage)
    disk.check(str(out), 2 << 30)
    with pytest.raises(InputError, match=r"needs at least 3\.0 GiB .* has 2\.0 GiB left"):
        disk.check(str(out), 3 << 30)
    assert asked == [tmp_path, tmp_path] and not [*tmp_path.iterdir()]
