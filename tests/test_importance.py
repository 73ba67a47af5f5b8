"""tools.importance, as a user calls it."""

import json

import numpy as np
import pages
import pytest
from commands import call, done, refused

from maxlite.surgery import scores as scores_lib

FEW = ("--sequences=4", "--seq_len=16", "--batch_size=4")


def test_scores_and_page(tiny_folder, tiny_text, tmp_path):
    model = tiny_folder()
    out, plot, figures = (tmp_path / n for n in ("s.safetensors", "s.html", "s.json"))
    given = (f"--model={model}", f"--text={tiny_text}/en.txt,{tiny_text}/en.jsonl", *FEW)
    files = (f"--out={out}", f"--plot={plot}", f"--json={figures}")
    assert done(call("tools.importance", *given, f"--out={out}", "--dry_run")) is not None
    assert not out.exists()
    done(call("tools.importance", *given, *files, "--criterion=taylor"))
    scores = scores_lib.read(out)
    assert scores.criterion == "taylor" and "4 sequences of 16, seed 0" in scores.text
    assert {kind: array.shape for kind, array in scores.arrays.items()} == {
        "layers": (2,), "groups": (2, 2), "channels": (2, 48), "residual": (32,),
    }  # fmt: skip
    said = json.loads(figures.read_text())
    np.testing.assert_allclose(said["layers"], scores.layers, rtol=1e-6)
    assert said["scores"]["channels"]["count"] == 96 and said["seconds"] > 0
    page = pages.read(plot.read_text(encoding="utf-8"))
    assert [h.text for h in page.all("h2")] == [
        "Layers", "Groups of heads", "FFN channels", "Residual channels",
    ]  # fmt: skip
    assert len(page.all("svg")) == 4
    cells = [float(cell.text) for cell in page.all("td")]
    np.testing.assert_allclose(cells, scores.groups.reshape(-1), rtol=1e-3)

    before = out.read_bytes()
    assert "exists" in refused(tmp_path, "tools.importance", *given, f"--out={out}")
    done(call("tools.importance", *given, f"--out={out}", "--overwrite", "--seed=1"))
    assert out.read_bytes() != before


def test_a_learned_mask_meets_the_target(tiny_folder, tiny_text, tmp_path):
    model = tiny_folder()
    config = json.loads((model / "config.json").read_text())
    target = tmp_path / "config.json"
    target.write_text(json.dumps(config | {"intermediate_size": 20, "num_hidden_layers": 1}))
    given = (f"--model={model}", f"--text={tiny_text}/en.txt", *FEW, "--criterion=learned")
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    done(call("tools.importance", *given, f"--target={target}", "--steps=3", f"--out={one}",
              f"--plot={tmp_path / 'one.html'}"))  # fmt: skip
    budget = ("--budget_channels=20", "--budget_layers=1")
    done(call("tools.importance", *given, *budget, "--steps=3", f"--out={two}"))
    assert one.read_bytes() == two.read_bytes()
    scores = scores_lib.read(one)
    assert scores.arrays.keys() == {"layers", "channels"}
    assert (scores.layers > 0).sum() == 1
    assert ((scores.channels > 0).sum(-1) == 20).all()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("--criterion=magic", "there is no criterion 'magic'"),
        ("--criterion=learned", "needs a budget"),
        ("--criterion=learned --budget_channels=49", "49 channels cannot be met"),
        ("--criterion=learned --target={model}", "there is nothing to leave out"),
        ("--criterion=learned --target={model} --budget_layers=1", "give one"),
        ("--criterion=learned --target={model}/none.json", "names no config.json"),
        ("--budget_groups=1", "a budget is for --criterion=learned"),
        ("--text={model}/none.txt", "no file matches"),
        ("--sequences=100000", "give more text, or lower --sequences"),
        ("--seq_len=129", "sequences of 129 tokens cannot be read"),
        ("--out={model}/scores.bin", "must be a .safetensors file"),
        ("--plot={model}/no/page.html", "lies in a folder that does not exist"),
    ],
)
def test_bad_input(tiny_folder, tiny_text, tmp_path, changed, said):
    model = tiny_folder()
    given = {"model": model, "text": f"{tiny_text}/en.txt", "seq_len": 16, "sequences": 4}
    given["out"] = tmp_path / "scores.safetensors"
    more = [part.format(model=model).removeprefix("--").split("=", 1) for part in changed.split()]
    arguments = [f"--{key}={value}" for key, value in (given | dict(more)).items()]
    assert said in refused(tmp_path, "tools.importance", *arguments)
