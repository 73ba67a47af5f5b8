import json
import subprocess
import sys

import numpy as np
import pytest
from hf_examples import BF16, random_weights, tiny

from maxlite.errors import InputError
from maxlite.hf import config_json, folder, metadata, names, writer


def test_a_folder_opens_with_all_that_belongs_to_it(make_folder):
    path = make_folder()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "LICENSE"):
        (path / name).write_text("{}")
    for name in ("README.md", "tokenizer.py", "tokenizer.bin", "training_args.json"):
        (path / name).write_text("not carried")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool.jinja").write_text("{{ x }}")
    opened = folder.open_folder(path)
    assert opened.architecture == tiny()
    assert list(opened.tensors) == list(names.expected(tiny()))
    assert opened.metadata == {} and opened.notes == ()
    assert set(opened.dtypes.values()) == {"float32"}
    assert list(opened.files) == [
        "LICENSE",
        "additional_chat_templates/tool.jinja",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_mixed_dtypes_are_told_apart(make_folder):
    weights = random_weights(tiny(), "bfloat16")
    weights["model.norm.weight"] = np.ones(8, np.float32)
    opened = folder.open_folder(make_folder(weights=weights))
    assert opened.dtypes["model.norm.weight"] == "float32"
    assert opened.dtypes["lm_head.weight"] == "bfloat16"
    assert opened.tensors["lm_head.weight"].read().dtype == BF16


def test_base_rows_come_from_maxlite_json(make_folder):
    path = make_folder()
    note = {"format": 1, "vocabulary": {"base_rows": 20, "rows": 24}, "kept_ids": "ids.txt"}
    (path / "maxlite.json").write_text(json.dumps(note))
    (path / "ids.txt").write_text("1\n")
    opened = folder.open_folder(path)
    assert opened.architecture.base_rows == 20
    assert opened.metadata == note
    assert set(opened.files) == {"ids.txt", "maxlite.json"}


@pytest.mark.parametrize(
    "note, told",
    [
        ({"format": 2}, "format 2"),
        ({"vocabulary": {"base_rows": 25}}, "more than the model's 24 rows"),
        ({"vocabulary": {"base_rows": -1}}, "base_rows -1"),
        ({"vocabulary": []}, "vocabulary"),
        ({"kept_ids": "../secret"}, "kept_ids"),
        ({"history": {}}, "history"),
        ([], "JSON object"),
    ],
)
def test_a_wrong_maxlite_json_is_refused(make_folder, note, told):
    path = make_folder()
    (path / "maxlite.json").write_text(json.dumps(note))
    with pytest.raises(InputError, match=told):
        folder.open_folder(path)


def test_metadata_keeps_unknown_keys(tmp_path):
    note = {"later": {"x": 1}, "history": [{"tool": "untie", "arguments": {}, "version": "0"}]}
    metadata.write(tmp_path, note)
    assert metadata.read(tmp_path) == {"format": 1, **note}
    with pytest.raises(InputError):
        metadata.write(tmp_path, {"origin": 3})


def test_remote_code_is_ignored_with_a_line(make_folder):
    config = config_json.config_for(tiny(), "float32") | {"auto_map": {"AutoModel": "evil.Model"}}
    path = make_folder(config=config)
    (path / "evil.py").write_text("raise SystemExit('was run')")
    opened = folder.open_folder(path)
    assert any("auto_map" in note for note in opened.notes)
    assert "evil.py" not in opened.files


def test_what_is_no_model_folder_is_refused(tmp_path, make_folder):
    with pytest.raises(InputError, match="no model folder"):
        folder.open_folder(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no config.json"):
        folder.open_folder(tmp_path)
    path = make_folder()
    (path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        folder.open_folder(path)
    (path / "config.json").write_text("3")
    with pytest.raises(InputError, match="JSON object"):
        folder.open_folder(path)
    (path / "config.json").unlink()
    (path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="adapter"):
        folder.open_folder(path)


def test_is_folder(tmp_path, make_folder):
    assert folder.is_folder(make_folder())
    assert not folder.is_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model": "x", "steps": 3}')
    assert not folder.is_folder(tmp_path)


def test_the_room_is_light():
    heavy = "jax", "torch", "transformers", "grain", "huggingface_hub"
    code = (
        "import sys; from maxlite.hf import config_json, folder, metadata, names, tensors, writer;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_transformers_loads_what_we_write(make_folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    arch = tiny(head_dim=4, attention_bias=True, tie_word_embeddings=True)
    weights = random_weights(arch, "bfloat16")
    path = make_folder(arch=arch, weights=weights, max_shard_size=500)
    assert len(list(path.glob("*.safetensors"))) > 2
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.bfloat16, output_loading_info=True
    )
    assert not any(info.values())
    state = model.state_dict()
    for name, array in weights.items():
        np.testing.assert_array_equal(state[name].float().numpy(), array.astype(np.float32))


def test_we_open_what_transformers_writes(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.MistralConfig(
        vocab_size=24,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = transformers.MistralForCausalLM(config)
    model.save_pretrained(tmp_path, max_shard_size="1KB")
    opened = folder.open_folder(tmp_path)
    assert opened.architecture.sliding_window == 4096
    assert set(opened.files) == {"generation_config.json"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(torch.from_numpy(opened.tensors[name].read().copy()), tensor)
    writer.write_folder(
        tmp_path / "copy",
        config=(tmp_path / "config.json").read_bytes(),
        specs={name: (t.dtype, t.shape) for name, t in opened.tensors.items()},
        read=opened.tensors.__getitem__,
    )
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "copy")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
