"""Block Influence, leave-one-out and activations against transformers with hooks."""

import importance_examples as examples
import numpy as np
import pytest

from maxlite.importance import forward
from maxlite.importance.text import Text
from maxlite.parameters import LAYERS


@pytest.fixture(scope="module")
def peer(trained_folder):
    """The model in transformers, and what goes in and out of its parts: peer(tokens) -> dict."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(trained_folder).eval()

    def run(tokens):
        seen = {}
        hooks = [
            module.register_forward_hook(
                lambda module, given, result, name=name: seen.update({name: (given, result)})
            )
            for name, module in model.named_modules()
        ]
        with torch.no_grad():
            logits = model(torch.tensor(tokens, dtype=torch.long)).logits.numpy()
        for hook in hooks:
            hook.remove()

        tensors = {
            name: (given[0].numpy(), (out[0] if isinstance(out, tuple) else out).numpy())
            for name, (given, out) in seen.items()
            if (given and name.endswith(("_proj", "norm"))) or name.split(".")[-1].isdigit()
        }
        return logits, tensors

    return model, run


@pytest.fixture(scope="module")
def single(text):
    """The same rows as if each were one document, which is how the peer reads them."""
    rows = dict(text.rows)
    shape = rows["tokens"].shape
    rows["segments"] = np.ones_like(rows["segments"])
    rows["positions"] = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
    rows["weights"] = np.ones_like(rows["weights"])
    return Text(rows, "single")


def test_block_influence(trained, single, peer):
    _, run = peer
    _, seen = run(single.rows["tokens"])
    expected = []
    for layer in range(3):
        x, y = (a.astype(np.float64) for a in seen[f"model.layers.{layer}"])
        norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
        expected.append(1 - ((x * y).sum(-1) / norms).mean())
    found = forward.block_influence(trained, single, 3)  # the last batch is not full
    np.testing.assert_allclose(found["layers"], expected, rtol=1e-4)
    assert found.keys() == {"layers"}


def test_activation(trained, single, peer):
    _, run = peer
    _, seen = run(single.rows["tokens"])
    found = forward.activation(trained, single, 3)
    layers = [f"model.layers.{i}" for i in range(3)]
    channels = [np.abs(seen[f"{n}.mlp.down_proj"][0]).mean((0, 1)) for n in layers]
    np.testing.assert_allclose(found["channels"], channels, rtol=1e-4)
    heads = [seen[f"{n}.self_attn.o_proj"][0] for n in layers]
    groups = [np.linalg.norm(h.reshape(*h.shape[:2], 2, 16), axis=-1).mean((0, 1)) for h in heads]
    np.testing.assert_allclose(found["groups"], groups, rtol=1e-4)
    norms = [f"{n}.{m}" for n in layers for m in ("input_layernorm", "post_attention_layernorm")]
    residual = np.mean([np.abs(seen[n][1]).mean((0, 1)) for n in [*norms, "model.norm"]], axis=0)
    np.testing.assert_allclose(found["residual"], residual, rtol=1e-4)


def test_leave_one_out(trained, single, peer):
    torch = pytest.importorskip("torch")
    model, run = peer
    targets = single.rows["targets"]

    def loss():
        logits, _ = run(single.rows["tokens"])
        logits = torch.tensor(logits).double().log_softmax(-1).numpy()
        return -np.take_along_axis(logits, targets[..., None], -1).mean()

    layers = model.model.layers
    whole, expected = loss(), []
    for i in range(3):
        model.model.layers = torch.nn.ModuleList(layers[:i]) + layers[i + 1 :]
        expected.append(loss() - whole)
    model.model.layers = layers
    found = forward.leave_one_out(trained, single, 3)
    np.testing.assert_allclose(found["layers"], expected, rtol=1e-3, atol=1e-5)


def test_documents_of_a_row_do_not_see_each_other(trained, text):
    """What is measured on packed rows is what training computes on them."""
    packed = forward.block_influence(trained, text, 8)["layers"]
    rows = dict(text.rows) | {"segments": np.ones_like(text.rows["segments"])}
    mixed = forward.block_influence(trained, Text(rows, ""), 8)["layers"]
    assert text.rows["segments"].max() > 1
    assert np.abs(packed - mixed).max() > 1e-4


def test_biases_go_with_their_layer(tiny_folder, tiny_text):
    folder = tiny_folder(attention_bias=True, mlp_bias=True, scale=0.2)
    examples.kill(folder, layers=[1])
    ready = examples.one_device(folder)
    assert ready.params[f"{LAYERS}mlp.down_proj.bias"].shape == (2, 32)
    found = forward.leave_one_out(ready, examples.text_of(ready, tiny_text), 8)["layers"]
    assert found[1] == 0 and found[0] != 0
