"""What `prepare` makes of a config, and what it refuses before anything is written."""

import dataclasses
import json
import os
import shutil

import jax.numpy as jnp
import pytest

from maxlite import config as config_lib
from maxlite.config import Architecture, Config, Data, Optimizer, Source
from maxlite.data import orders
from maxlite.data.making import Making, make, stamps
from maxlite.errors import InputError
from maxlite.model.flops import flops_per_token
from maxlite.state import imported
from maxlite.state import run as run_lib
from maxlite.state.run import RunFolder
from maxlite.state.source import open_model
from maxlite.tokenizer import load_tokenizer
from maxlite.training import job as job_lib

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture
def stage(tiny_folder, tiny_text, tmp_path):
    """stage(**changes): a config that can be prepared, with keys changed; model="" for random."""
    folder = tiny_folder(dtype="bfloat16", vocab_size=410)

    def make(**changes):
        config = Config(
            model=str(folder),
            out=str(tmp_path / "run"),
            steps=4,
            batch_size=16,
            seq_len=32,
            accumulate=2,
            data=Data(train=(Source(str(tiny_text / "en.txt")),), held_out=0.1),
        )
        for key, value in changes.items():
            config_lib.put(config, key.replace("__", "."), value)
        return config_lib.resolve(config)

    return make


def test_a_job_is_what_the_config_says(stage, tmp_path, capsys):
    job = job_lib.prepare(stage(mesh="fsdp=4,tensor=2"))
    assert job.batch_shape == (2, 8, 32)
    assert job.config.dtype == "float32" and job.dtype == jnp.float32  # auto, on a CPU
    assert set(job.dtypes().values()) == {jnp.dtype("float32")}  # what trains, from bfloat16
    assert job.tokenizer.rows == 400 and job.source.architecture.vocab_size == 410
    assert job.run is None and job.resumed == -1
    assert job.flops_per_token == flops_per_token(job.source.architecture, 32, ())
    assert job.shardings.keys() == job.source.shapes.keys() == job.claims.rules.keys()
    assert set(job.corpus.evals) == {"en"}
    assert "10 of the model's 410 vocabulary rows" in capsys.readouterr().err
    said = job_lib.summary(job)
    for part in (
        "everything: trains",
        "fsdp=4, sequence=1, tensor=2",
        "steps: 4 of 16 x 32 tokens",
        "en",
    ):
        assert part in said
    assert sorted(os.listdir(tmp_path)) == ["model"]  # nothing has been written


def test_what_is_frozen_keeps_its_type(stage):
    dtypes = job_lib.prepare(stage(train="output_rows")).dtypes()
    assert dtypes.pop("lm_head.weight") == jnp.float32
    assert set(dtypes.values()) == {jnp.dtype("bfloat16")}
    dtypes = job_lib.prepare(stage(train="output_rows", frozen_dtype="float32")).dtypes()
    assert set(dtypes.values()) == {jnp.dtype("float32")}


def test_only_what_trains_trains_of_a_random_model(stage, tiny_tokenizer):
    settings = {"architecture": Architecture(**SIZES), "data__tokenizer": str(tiny_tokenizer)}
    with pytest.raises(InputError, match=r"'train' freezes .* of a model of random weights"):
        job_lib.prepare(stage(model="", train="norms", **settings))


def test_a_run_that_did_not_finish_is_no_beginning(stage, tmp_path):
    imported.import_model(open_model(stage().model), tmp_path / "before")
    run = RunFolder(tmp_path / "before")
    assert job_lib.prepare(stage(model=str(run.path))).source.step == 0
    run.set_status(status="stopped", step=3)
    with pytest.raises(InputError, match=r"before, which is not finished but stopped at step 3"):
        job_lib.prepare(stage(model=str(run.path)))


@pytest.fixture
def lone(tiny_tokenizer, tmp_path_factory):
    """A tokenizer.model with nothing beside it."""
    return str(shutil.copy(tiny_tokenizer / "tokenizer.model", tmp_path_factory.mktemp("lone")))


def test_a_random_model(stage, tiny_tokenizer, lone):
    job = job_lib.prepare(
        stage(model="", architecture=Architecture(**SIZES), data__tokenizer=str(tiny_tokenizer))
    )
    assert job.source.where == "random weights" and job.source.architecture.vocab_size == 400
    assert {"tokenizer.model", "tokenizer.json", "tokenizer_config.json"} <= job.source.files.keys()
    job = job_lib.prepare(stage(model="", architecture=Architecture(**SIZES), data__tokenizer=lone))
    assert set(job.source.files) == {"tokenizer.model"}


def test_a_tokenizer_of_ones_own_takes_the_place_of_the_models(stage, lone, tiny_folder):
    folder = tiny_folder("other", tokenizer="json")
    (folder / "LICENSE").write_text("terms")
    files = job_lib.prepare(stage(model=str(folder), data__tokenizer=lone)).source.files
    assert set(files) == {"config.json", "generation_config.json", "LICENSE", "tokenizer.model"}
    assert str(files["tokenizer.model"]) == lone


REFUSED = [
    ({"out": ""}, "'out' is empty"),
    ({"data__train": ()}, r"'data\.train' is empty"),
    ({"model": ""}, "'model' and 'data.tokenizer' are both empty"),
    ({"model": "nonesuch/"}, "nonesuch"),
    ({"mesh": "fsdp=3"}, "8 devices"),
    ({"mesh": "fsdp=2,tensor=4"}, "2 key-value heads"),
    ({"batch_size": 24, "accumulate": 2}, "multiple of 16"),
    ({"seq_len": 129}, "max_position_embeddings of 128"),
    ({"attention": "nonesuch"}, "attention 'nonesuch'"),
    ({"remat": "nonesuch"}, "remat 'nonesuch'"),
    ({"data__tokenizer": "nonesuch"}, "nonesuch"),
    ({"data__train": (Source("nonesuch/*.txt"),)}, r"nonesuch/\*\.txt"),
]


@pytest.mark.parametrize(("changes", "said"), REFUSED)
def test_what_would_stop_the_run_later_stops_it_now(changes, said, stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = stage(**changes)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=said):
        job_lib.prepare(config)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_token_without_a_row_is_refused(stage, tiny_folder):
    folder = tiny_folder("small", vocab_size=399)
    with pytest.raises(InputError, match="399"):
        job_lib.prepare(stage(model=str(folder)))


def test_a_source_is_read_no_more_often_than_it_may(stage, tiny_text):
    source = Source(str(tiny_text / "en.txt"), epochs=1.0)
    with pytest.raises(InputError, match="epochs"):
        job_lib.prepare(stage(data__train=(source,), steps=10_000))


def test_a_taken_folder_is_refused(stage, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="another out"):
        job_lib.prepare(stage())
    imported.import_model(open_model(stage().model), tmp_path / "imported")
    with pytest.raises(InputError, match="imported model"):
        job_lib.prepare(stage(out=str(tmp_path / "imported")))


def begun(config):
    """The run folder of a config, before its first checkpoint."""
    job = job_lib.prepare(config)
    description = {
        "config": config_lib.as_dict(config),
        "order": job.corpus.order.fingerprint,
    }
    path = run_lib.Path(config.out)
    return run_lib.create(path, description, job.source.carried, job.source.dtypes)


def test_a_run_goes_on_with_its_own_config_and_text_only(stage, tmp_path, tiny_text):
    text = tmp_path / "text.txt"
    text.write_bytes((tiny_text / "en.txt").read_bytes())
    sources = (Source(str(text)),)
    begun(stage(data__train=sources))
    job = job_lib.prepare(stage(data__train=sources, mesh="data=8", accumulate=1))
    assert job.run is not None and job.resumed == -1
    del job  # and with it its lock
    with pytest.raises(InputError, match="seed was 0 and is now 1"):
        job_lib.prepare(stage(data__train=sources, seed=1))
    optimizer = dataclasses.replace(Optimizer(), learning_rate=0.5)
    with pytest.raises(InputError, match=r"optimizer\.learning_rate was 0\.0003 and is now 0\.5"):
        job_lib.prepare(stage(data__train=sources, optimizer=optimizer))
    text.write_text(text.read_text() + "one more document\n")
    with pytest.raises(InputError, match=r"the text of the run .*text\.txt has another content"):
        job_lib.prepare(stage(data__train=sources))


def test_a_run_goes_on_where_its_text_is_now(stage, tmp_path, tiny_text):
    """With the tokens of what it began with, or with an order that has moved."""
    text, folder = tiny_text / "en.txt", tmp_path / "en.tokens"
    begun(stage(data__train=(Source(str(text)),)))
    making = Making([text], stamps([text]), load_tokenizer(stage().model), tmp_path / "work")
    assert make(making, folder)
    job = job_lib.prepare(stage(data__train=(Source(str(folder)),)))
    assert job.run is not None and job.corpus.order.sources[0].name == "en"
    orders.write_order(tmp_path / "a", job.corpus.file)
    del job
    other = (Source(str(tiny_text / "xx.txt")),)
    with pytest.raises(InputError, match=r"the text of the run .*xx\.txt has another content"):
        job_lib.prepare(stage(data__train=other))
    follows = stage(data=Data(order=str(tmp_path / "a")), out=str(tmp_path / "second"))
    begun(follows)
    shutil.move(tmp_path / "a", tmp_path / "b")
    follows.data.order = str(tmp_path / "b")
    assert job_lib.prepare(follows).run is not None


def test_a_run_older_than_a_key_goes_on(stage):
    """As if it had begun before sources had `later`, and before there were orders."""
    run = begun(stage())
    description = json.loads((run.path / "run.json").read_text())
    del description["config"]["data"]["order"]
    del description["config"]["data"]["train"][0]["later"]
    (run.path / "run.json").write_text(json.dumps(description))
    job = job_lib.prepare(stage())
    assert job.run is not None
    del job
    changed = Source(stage().data.train[0].glob, later=((2, 3.0),))
    with pytest.raises(InputError, match=r"data\.train was .* and is now .*2, 3\.0"):
        job_lib.prepare(stage(data__train=(changed,)))


def test_a_job_follows_an_order(stage, tmp_path):
    plain = job_lib.prepare(stage(seed=3))
    orders.write_order(tmp_path / "my.order", plain.corpus.file)
    settings = {"data": Data(order=str(tmp_path / "my.order"))}
    job = job_lib.prepare(stage(**settings))
    assert job.corpus.order.fingerprint == plain.corpus.order.fingerprint
    assert list(job.corpus.evals) == ["en"]
    with pytest.raises(InputError, match="sequences of 32 tokens, but seq_len is 16"):
        job_lib.prepare(stage(**settings, seq_len=16))
    with pytest.raises(InputError, match="both set"):
        stage(data__order="my.order")
    with pytest.raises(InputError, match="nonesuch is no order"):
        job_lib.prepare(stage(data=Data(order=str(tmp_path / "nonesuch"))))
    few = dataclasses.replace(plain.corpus.file.sources[0].source, epochs=0.5)
    listed = dataclasses.replace(plain.corpus.file.sources[0], source=few)
    capped = dataclasses.replace(plain.corpus.file, sources=(listed,))
    orders.write_order(tmp_path / "my.order", capped, overwrite=True)
    with pytest.raises(
        InputError, match=r"'en' would be read .* allow 0\.5.* enough for \d+ steps"
    ):
        job_lib.prepare(stage(**settings, steps=10_000))


def test_a_run_that_has_lost_its_checkpoints_does_not_begin_again(stage):
    run = begun(stage())
    run.set_status(status="running", step=3, checkpoint=3)
    with pytest.raises(InputError, match="does not start from scratch"):
        job_lib.prepare(stage())
