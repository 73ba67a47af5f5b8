"""A model from the hub: the files wanted, at the commit meant, in every program; or a sentence."""

import json
import shutil

import huggingface_hub
import local_hub
import pytest
import stage_desk
from commands import call, snapshot
from huggingface_hub import constants

from maxlite.errors import InputError
from maxlite.hf import hub
from maxlite.hf.folder import open_folder, present, resolve

SECRET = "hf_averysecrettoken"
CARD = "---\nlicense: other\nlicense_name: moon\nlicense_link: LICENSE\n---\n# A base\n"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub that this process uses, with an empty cache and no token."""
    real = constants.ENDPOINT
    with local_hub.serve() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.address)
        files = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(real, served.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "")  # so that what a test sets is taken back
        monkeypatch.delenv("HF_TOKEN")
        huggingface_hub.close_session()  # it remembers whether the machine was offline
        yield served
    huggingface_hub.close_session()


@pytest.fixture
def base(server, tiny_folder):
    """A repository with more in it than is wanted; gives it and the folder it was made from."""
    folder = tiny_folder(shards=2)
    (folder / hub.CARD).write_text(CARD)
    (folder / "LICENSE").write_text("Yours to use.")
    found = server.repositories["org/base"] = local_hub.Repository()
    more = {"modeling_base.py": b"evil()", "pytorch_model.bin": b"pickle", "a.gguf": b"gguf"}
    more |= {"original__consolidated.safetensors": b"twice", "onnx__config.json": b"{}"}
    found.push(folder, **more, **{"consolidated.safetensors": b"twice", "tokenizer.py": b"evil()"})
    return found, folder


def refused(*arguments) -> str:
    with pytest.raises(InputError) as error:
        resolve(*arguments)
    return str(error.value)


def test_only_what_is_needed_is_downloaded(server, base, digest):
    found = resolve("org/base")
    assert digest(found) == digest(base[1])
    assert server.fetched() == set(digest(base[1]))
    assert open_folder(found).parameters == open_folder(base[1]).parameters


def test_a_revision_is_a_branch_a_tag_or_a_commit(base, tiny_folder):
    first, other = base[0].refs["main"], base[0].push(tiny_folder("second", seed=5), "next")
    base[0].refs["v1"] = first
    for revision, commit in {"": first, "v1": first, "next": other, other: other}.items():
        found = resolve("org/base", revision)
        assert hub.snapshot(found) == ("org/base", commit)
    assert f"commit {other} of org/base on the hub" in open_folder(found).notes
    weights = [(folder / "config.json").parent for folder in (resolve("org/base"), found)]
    assert open_folder(weights[0]).tensors["model.norm.weight"].read().tolist() != (
        open_folder(weights[1]).tensors["model.norm.weight"].read().tolist()
    )


def test_what_is_known_of_a_folder(base, tmp_path):
    commit = base[0].refs["main"]
    licence = {"license": "other", "license_name": "moon", "license_link": "LICENSE"}
    assert hub.source(resolve("org/base")) == {"model": "org/base", "commit": commit} | licence
    assert open_folder(base[1]).source == {"model": "model"} | licence
    for card in ("", "# no front matter", "---\n[broken\n---\n", "---\n- a list\n---\n", "---\n"):
        (base[1] / hub.CARD).write_text(card)
        assert hub.source(base[1]) == {"model": "model"}
    (base[1] / hub.CARD).write_text("---\r\nlicense: mit\r\nlicense_name: [3]\r\n---\r\n")
    assert hub.source(base[1]) == {"model": "model", "license": "mit"}


@pytest.mark.parametrize("gated", [False, True])
def test_a_token_comes_from_a_file_or_the_environment(server, base, tmp_path, monkeypatch, gated):
    base[0].token, base[0].gated = SECRET, gated
    told = refused("org/base")
    assert ("gated" in told) == gated
    assert "hf auth login" in told and "HF_TOKEN" in told and "--token_file" in told
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    told = refused("org/base")
    assert "hf_wrong" not in told and "--token_file" in told
    (tmp_path / "token").write_text(f"{SECRET}\n")
    hub.use_token(str(tmp_path / "token"))
    assert hub.snapshot(resolve("org/base"))[0] == "org/base"
    assert server.tokens == {"hf_wrong", SECRET}
    monkeypatch.delenv("HF_TOKEN")


def test_a_file_without_a_token_is_refused_without_saying_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "kept")
    for content, told in {b"": "a token", b"two words": "a token", b"\xff\xfe": "else"}.items():
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(InputError, match=told) as error:
            hub.use_token(str(tmp_path / "file"))
        assert "words" not in str(error.value)
    with pytest.raises(InputError, match="No such file"):
        hub.use_token(str(tmp_path / "missing"))
    hub.use_token("")
    assert hub.os.environ["HF_TOKEN"] == "kept"


def test_what_the_hub_has_not_is_said(server, base):
    told = refused("org/missing")
    assert "there is no folder org/missing here" in told and "correct the name" in told
    told = refused("org/base", "v9")
    assert "no branch, tag or commit 'v9'" in told and "/org/base/tree/main" in told
    assert "no branch, tag or commit" in refused("org/base", "0" * 40)
    assert "nor is it a hub id" in refused("not a name")


def test_what_else_goes_wrong_is_told(base, monkeypatch):
    def full(*_, **__):
        raise OSError("no\nroom")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    assert "downloading org/base at v1 from" in (told := refused("org/base", "v1"))
    assert told.endswith("failed: no room")


def test_a_repository_without_safetensors_is_refused(server, base, tmp_path):
    (tmp_path / "old").mkdir()
    shutil.copy(base[1] / "config.json", tmp_path / "old")
    old = server.repositories["org/old"] = local_hub.Repository()
    old.push(tmp_path / "old", **{"pytorch_model.bin": b"pickle"})
    assert "no safetensors" in refused("org/old")
    assert not any("pytorch_model" in asked for asked in server.asked)


def test_a_model_that_is_code_is_refused(server, base, tmp_path):
    config = json.loads((base[1] / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_base.Own"}
    (base[1] / "config.json").write_text(json.dumps(config))
    base[0].push(base[1], **{"modeling_base.py": b"evil()"})
    with pytest.raises(InputError, match="own"):
        open_folder(resolve("org/base"))
    assert not any("modeling_base" in asked for asked in server.asked)


def test_without_a_connection_the_cache_is_used(server, base, monkeypatch):
    found = resolve("org/base")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert resolve("org/base") == found
    told = refused("org/base", "v1")
    assert "cannot be reached" in told and "org/base at v1 is not whole in the cache" in told
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    assert resolve("org/base") == found == resolve("org/base", base[0].refs["main"])
    told = refused("org/other")
    assert "HF_HUB_OFFLINE is set" in told and "org/other" in told


def test_a_snapshot_that_the_cache_has_lost_comes_back(base, tmp_path, digest):
    found = resolve("org/base")
    was = digest(found)
    base[0].push(base[1], **{"LICENSE": b"Another."})
    shutil.rmtree(tmp_path / "cache")
    assert digest(present(found)) == was
    assert present(base[1]) == base[1]
    assert present(tmp_path / "gone") == tmp_path / "gone"


def test_a_folder_here_has_no_revision(tiny_folder):
    folder = tiny_folder()
    assert resolve(folder) == folder
    assert f"{folder} is a folder here" in refused(folder, "main")


# --- programs ------------------------------------------------------------------------------------


@pytest.fixture
def desk(base, tmp_path, make_folder, tiny_text):
    """A stage whose model is on the hub, where a token is asked for; the token is in a file."""
    base[0].token = SECRET
    (tmp_path / "token").write_text(SECRET)
    return stage_desk.lay(tmp_path / "desk", make_folder, tiny_text)


def train(desk, *arguments, **settings):
    """Trains by stage.py with the base on the hub."""
    settings = {"model": "org/base", "out": desk / "run", "export": desk / "better"} | settings
    settings |= {"data__train": desk / "text.txt"}
    keys = [f"--config.{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return call("maxlite.train", f"--config={desk}/stage.py", *keys, *arguments)


def description(run):
    return json.loads((run / "run.json").read_text())


def test_a_run_keeps_the_commit_that_it_began_with(base, desk, tmp_path, tiny_folder):
    token, began = f"--token_file={tmp_path / 'token'}", base[0].refs["main"]
    outcome = train(desk, token, revision="main", export_card=True)
    assert outcome.status == 0, outcome.err
    assert f"commit {began} of org/base on the hub" in outcome.err
    assert description(desk / "run")["config"]["revision"] == "main"
    assert description(desk / "run")["source"]["commit"] == began
    note = json.loads((desk / "better" / "maxlite.json").read_text())
    assert note["origin"]["model"] == "org/base" and note["origin"]["commit"] == began
    assert note["base"]["commit"] == began and note["base"]["license_name"] == "moon"
    matter = huggingface_hub.metadata_load(desk / "better" / hub.CARD)
    assert matter["base_model"] == "org/base" and matter["license_name"] == "moon"
    assert (desk / "better" / "LICENSE").read_text() == "Yours to use."
    first = snapshot(desk / "better")
    export = ["--run=" + str(desk / "run"), f"--out={tmp_path / 'by-tool' / 'better'}"]
    outcome = call("tools.export_hf", *export, "--card")
    assert outcome.status == 0, outcome.err
    assert snapshot(tmp_path / "by-tool" / "better") == first

    base[0].push(tiny_folder("moved", seed=7))  # and the run, killed before its first save, goes on
    shutil.rmtree(desk / "better")
    for step in (desk / "run" / "checkpoints").iterdir():
        shutil.rmtree(step)
    status = json.loads((desk / "run" / "status.json").read_text())
    status |= {"status": "running", "step": 0, "checkpoint": -1}
    (desk / "run" / "status.json").write_text(json.dumps(status))
    again = train(desk, token, revision="main", export_card=True)
    assert again.status == 0, again.err
    assert snapshot(desk / "better") == first

    other = train(desk, token, "--dry_run", out=desk / "other", export=desk / "other-better")
    assert f"commit {base[0].refs['main']} of org/base" in other.err
    files = [file for file in desk.rglob("*") if file.is_file()]
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
    assert not [o for o in (outcome, again, other) if SECRET in o.out + o.err]


def test_a_frozen_base_comes_back_from_the_hub(base, desk, tmp_path, tiny_folder):
    token = f"--token_file={tmp_path / 'token'}"
    rule = {"train": "input_rows", "steps": 2}
    outcome = train(desk, token, **rule)
    assert outcome.status == 0, outcome.err
    base[0].push(tiny_folder("moved", seed=7))
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(desk / "better")
    again = train(desk, token, **rule)
    assert again.status == 0, again.err
    assert (desk / "better" / "model.safetensors").is_file()


def test_a_token_on_the_command_line_is_not_repeated(desk):
    for argument in (f"--token={SECRET}", f"--tokenfile={SECRET}"):
        outcome = train(desk, argument)
        assert SECRET not in outcome.err and "unknown argument '--token" in outcome.sentence
        outcome = call("tools.import_hf", "--model=org/base", f"--out={desk}/run", argument)
        assert SECRET not in outcome.err and "token_file" in outcome.sentence
    assert "'model' is empty" in train(desk, model="", revision="main").sentence
    told = train(desk, model=desk / "model", revision="main").sentence
    assert "is a folder here" in told and not (desk / "run").exists()


def test_tools_take_a_revision_and_a_token(server, base, desk, tmp_path):
    first, token = base[0].refs["main"], f"--token_file={tmp_path / 'token'}"
    base[0].push(base[1], "next", **{"LICENSE": b"Another."})
    model = ["--model=org/base", "--revision=next", token]
    outcome = call("tools.upscale_depth", *model, "--layers=0-1,0-1", f"--out={tmp_path / 'deep'}")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "deep" / "LICENSE").read_text() == "Another."
    note = json.loads((tmp_path / "deep" / "maxlite.json").read_text())
    assert note["base"]["commit"] == base[0].refs["next"] != first
    outcome = call("tools.import_hf", *model, f"--out={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    assert description(tmp_path / "run")["source"]["commit"] == base[0].refs["next"]
    outcome = call("tools.evaluate", *model, f"--text={desk / 'text.txt'}", "--documents=2")
    assert outcome.status == 0, outcome.err
    wrong = call("tools.untie", "--model=org/base", "--revision=v9", token, f"--out={tmp_path}/v9")
    assert "no branch, tag or commit 'v9'" in wrong.sentence
    assert not (tmp_path / "v9").exists()
