import json
import shutil

import pytest

from maxlite.errors import InputError
from maxlite.tokenizer import agreement
from maxlite.tokenizer.definition import open_definition

LINES = ["the moon", "a <s> in text", "", "the small dog", "</s>"]


def test_special_strings_are_text_in_one_count_and_tokens_in_the_other(tiny_tokenizer):
    result = agreement.compare(open_definition(tiny_tokenizer), LINES)
    assert result == agreement.Agreement(5, 0, 2, None)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_the_first_difference_is_shown(batch, tiny_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "_BATCH", batch)
    folder = shutil.copytree(tiny_tokenizer, tmp_path / "in")
    tree = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    dropped = [m for m in tree["model"]["merges"] if "".join(m) == "▁dog"]
    assert dropped
    tree["model"]["merges"] = [m for m in tree["model"]["merges"] if m not in dropped]
    (folder / "tokenizer.json").write_text(json.dumps(tree), "utf-8")
    result = agreement.compare(open_definition(folder), [*LINES, "▁dog", "boat"])
    assert (result.lines, result.differing, result.differing_special) == (7, 2, 4)
    assert (result.first.number, result.first.text) == (4, "the small dog")
    assert "▁dog" in result.first.model and "▁dog" not in result.first.json
    assert "".join(result.first.json) == "▁the▁small▁dog"


def test_one_form_cannot_be_compared(tiny_tokenizer, tmp_path, sp_user_defined):
    with pytest.raises(InputError, match="no two forms to compare"):
        agreement.compare(open_definition(tiny_tokenizer / "tokenizer.json"), LINES)
    (tmp_path / "x.model").write_bytes(sp_user_defined)
    with pytest.raises(InputError, match=r"has no tokenizer\.json"):
        agreement.compare(open_definition(tmp_path / "x.model"), LINES)
