"""The command line: what it reads, and the sentences it gives for what it cannot."""

import pytest

from maxlite import flags
from maxlite.config import Config, Source, get, keys
from maxlite.errors import InputError

GOOD = """
from maxlite.config import Config, Data, Optimizer, Source

def get_config():
    return Config(
        out="runs/a",
        steps=7,
        optimizer=Optimizer(learning_rate=0.5, warmup=0.0),
        data=Data(train=(Source("a.txt", weight=3.0), "b.txt")),
    )
"""


@pytest.fixture
def file(tmp_path):
    """file(text, name="config.py"): the path of a config file."""

    def make(text=GOOD, name="config.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return make


def refused(argv, *said):
    with pytest.raises(InputError) as caught:
        flags.parse(argv)
    text = str(caught.value)
    assert "\n" not in text
    for part in said:
        assert part in text, text


def test_a_config_without_overrides(file):
    config, rest = flags.parse([f"--config={file()}", "--dry_run", "x"])
    assert type(config) is Config
    assert (config.out, config.steps, config.optimizer.learning_rate) == ("runs/a", 7, 0.5)
    assert config.data.train == (Source("a.txt", weight=3.0), Source("b.txt"))
    assert config.checkpoint.keep == Config().checkpoint.keep
    assert rest == ["--dry_run", "x"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("steps", "12", 12),
        ("optimizer.learning_rate", "1e-4", 1e-4),
        ("optimizer.learning_rate", "2", 2.0),
        ("optimizer.schedule", "linear", "linear"),
        ("architecture.tie_word_embeddings", "true", True),
        ("architecture.tie_word_embeddings", "False", False),
        ("architecture.bos_token_id", "-1", -1),
        ("out", "", ""),
        ("out", "a b/c=d,e", "a b/c=d,e"),
        ("mesh", "fsdp=-1,tensor=2", "fsdp=-1,tensor=2"),
        ("eval.prompt", "Once upon\na 'time' \"x\" [1]", "Once upon\na 'time' \"x\" [1]"),
        ("eval.prompt", "--config.steps=3", "--config.steps=3"),
        ("eval.prompt", "None", "None"),
        ("data.tokenizer", "/a b/c", "/a b/c"),
        ("data.train", "한국 어/*.txt", (Source("한국 어/*.txt"),)),
        ("data.train", "", ()),
        ("data.eval", "x.txt,en=y.txt:2", (Source("x.txt"), Source("y.txt", 2.0, "en"))),
    ],
)
def test_overrides_of_every_type(file, key, text, value):
    config, _ = flags.parse([f"--config={file()}", f"--config.{key}={text}"])
    assert get(config, key) == value
    assert type(get(config, key)) is type(value)


def test_overrides_may_stand_apart_and_the_last_counts(file):
    path = file()
    config, rest = flags.parse(
        ["--config.steps", "3", "--config", path, "--config.steps", "4", "--config.seed=5"]
    )
    assert (config.steps, config.seed, rest) == (4, 5, [])


@pytest.mark.parametrize("key", [k for k, kind in keys().items() if kind in (int, float, bool)])
def test_text_that_is_not_of_the_type_is_refused(file, key):
    for text in ("", "x", "1.5.0", "1e", "None"):
        refused([f"--config={file()}", f"--config.{key}={text}"], f"'{key}'", keys()[key].__name__)


def test_an_int_is_not_a_float(file):
    refused([f"--config={file()}", "--config.steps=1e3"], "'steps'", "int", "'1e3'")
    refused([f"--config={file()}", "--config.optimizer.clip=nan"], "'optimizer.clip'", "finite")


def test_overrides_are_checked_like_the_file(file):
    refused([f"--config={file()}", "--config.steps=0"], "'steps'", "at least 1")
    refused([f"--config={file()}", "--config.train=nothing"], "'train'", "'everything'")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("stepz", "'steps'"),
        ("learning_rate", "'optimizer.learning_rate'"),
        ("optimiser.clip", "'optimizer.clip'"),
        ("checkpoint.evry", "'checkpoint.every'"),
        ("data", "'data."),
        ("data.train[0].glob", "'data.train'"),
        ("qqqqqqqqqqqq", "choose from model,"),
    ],
)
def test_an_unknown_key_names_the_nearest(file, key, meant):
    refused([f"--config={file()}", f"--config.{key}=1"], f"'{key}'", meant)


def test_init_is_not_for_the_command_line(file):
    refused([f"--config={file()}", "--config.init=Untie()"], "'init'", "config file")


def test_a_flag_without_a_value(file):
    refused([f"--config={file()}", "--config.steps"], "--config.steps", "=VALUE")
    refused([f"--config={file()}", "--config.out", "--dry_run"], "--config.out", "=VALUE")
    refused(["--config"], "--config", "=VALUE")


def test_no_config_at_all():
    refused([], "--config=FILE", "configs/continue.py")
    refused(["--config=", "--config.steps=3"], "--config")
    refused(["--config.steps=3"], "--config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def get_config(:\n", "invalid syntax"),
        ("import nonesuch_module\n", "nonesuch_module"),
        ("\n\ndef get_config():\n    return 1 / 0\n", ":4 could not be read: division by zero"),
        ("def get_config():\n    assert False\n", ":2 could not be read: AssertionError"),
        (
            "from maxlite.config import Config\ndef get_config():\n    return Config(stepz=1)",
            "stepz",
        ),
        ("def get_config(x):\n    return x\n", "get_config()"),
        ("def get_config():\n    return 5\n", "maxlite.config.Config, not int"),
        ("def get_config():\n    pass\n", "maxlite.config.Config, not NoneType"),
        ("", "get_config"),
    ],
)
def test_a_broken_file(file, text, said):
    flags.parse([f"--config={file(name='earlier.py')}"])  # nothing of it may stand in
    refused([f"--config={file(text, 'broken.py')}"], said)


def test_a_file_that_sets_what_is_no_key(file):
    text = GOOD.replace("return", "c =") + "    c.optimizer.lr = 1\n    return c\n"
    refused([f"--config={file(text)}"], "'optimizer.lr'")


@pytest.mark.parametrize(
    ("fields", "overrides", "sizes"),
    [  # (key-value heads, head_dim)
        ("", {"hidden_size": 32}, (4, 8)),
        ("", {"num_attention_heads": 8}, (8, 8)),
        ("", {"hidden_size": 96, "num_attention_heads": 2}, (2, 48)),
        ("", {"num_key_value_heads": 2}, (2, 16)),
        ("", {"head_dim": 32, "hidden_size": 32}, (4, 32)),
        ("num_key_value_heads=2", {"num_attention_heads": 8}, (2, 8)),
        ("head_dim=24", {"hidden_size": 32}, (4, 24)),
        ("", {"vocab_size": 5}, (4, 16)),
    ],
)
def test_what_is_derived_follows_the_overrides(file, fields, overrides, sizes):
    text = f"""
from maxlite.config import Architecture, Config
def get_config():
    return Config(architecture=Architecture(hidden_size=64, num_attention_heads=4, {fields}))
"""
    flags_ = [f"--config.architecture.{key}={value}" for key, value in overrides.items()]
    config, _ = flags.parse([f"--config={file(text)}", *flags_])
    arch = config.architecture
    assert (arch.num_key_value_heads, arch.head_dim) == sizes


def test_each_file_is_read_afresh(file):
    path = file()
    first, _ = flags.parse([f"--config={path}", "--config.data.train=x"])
    second, _ = flags.parse([f"--config={path}"])
    assert first.data.train == (Source("x"),)
    assert len(second.data.train) == 2


def test_a_colon_in_the_path_is_refused(file):
    refused([f"--config={file(name='a:b/config.py')}"], "':'")


def test_where_files_are_looked_for(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file(name="here.py")
    file(name="configs/there.py")
    file(name="configs/recipe/deep.py")
    for name, found in (
        ("here.py", "here.py"),
        ("./here.py", "here.py"),
        ("there.py", "configs/there.py"),
        ("configs/there.py", "configs/there.py"),
        ("recipe/deep.py", "configs/recipe/deep.py"),
        ("deep.py", "configs/recipe/deep.py"),
    ):
        assert flags.find_config(name).samefile(tmp_path / found), name
    assert flags.find_config("continue.py").samefile(flags._HERE / "configs" / "continue.py")


def test_the_name_as_given_wins(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file(name="configs/same.py")
    assert flags.find_config("same.py").samefile(tmp_path / "configs" / "same.py")
    file(name="same.py")
    assert flags.find_config("same.py").samefile(tmp_path / "same.py")


def test_several_matches_are_refused_and_listed(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = file(name="configs/one/stage.py"), file(name="configs/other/stage.py")
    refused(["--config=stage.py"], "'stage.py'", one, other)
    assert flags.find_config("one/stage.py").samefile(one)


def test_a_missing_file_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(["--config=contineu.py"], "'contineu.py'", "did you mean 'continue.py'?")
    refused(["--config=zzzzzz"], "'zzzzzz'", "continue.py", "pretrain.py")
    refused([f"--config={tmp_path}"], str(tmp_path))


def test_help_has_every_key_with_its_default():
    lines = {line.split()[0]: line for line in flags.describe().splitlines()}
    assert lines.keys() == keys().keys()
    assert {"float", "0.0003"} <= {*lines["optimizer.learning_rate"].split()}
    assert "norms and biases never decay" in lines["optimizer.weight_decay"]
    assert "tuple" in lines["data.train"]


def test_several_configs_share_their_overrides(file):
    a, b = file(name="a.py"), file(name="b.py")
    found, rest = flags.parse_several([f"--config={a}, {b}", "--config.steps=9", "--json=x"])
    assert list(found) == [a, b] and rest == ["--json=x"]
    assert [config.steps for config in found.values()] == [9, 9]
    assert found[a] is not found[b]
    comma = file(name="one,two.py")  # a file that is there wins over a list
    assert list(flags.parse_several([f"--config={comma}"])[0]) == [comma]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "no --config"),
        (["--config.steps=1"], "--config is empty"),
        (["--config=continue.py,"], "a file without a name"),
        (["--config=continue.py,continue.py"], "'continue.py' twice"),
        (["--config=continue.py,nonesuch.py"], "nonesuch.py"),
        (["--config=continue.py", "--config.stepz=1"], "did you mean 'steps'"),
    ],
)
def test_several_configs_are_refused_like_one(argv, said):
    with pytest.raises(InputError, match=said):
        flags.parse_several(argv)
