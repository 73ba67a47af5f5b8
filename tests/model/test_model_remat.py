"""What each policy computes again, and that it changes no number."""

import jax
import numpy as np
import pytest

from maxlite.model.flops import flops_per_token
from maxlite.model.llama import bind, shapes
from maxlite.model.loss import summed_loss
from maxlite.model.memory import repeated_per_token
from maxlite.model.remat import POLICIES

LENGTH = 256  # attention's share of the work is large


@pytest.fixture(scope="module")
def work(tiny, packed, tokens, random_params):
    """work(policy): a loss, its gradient, and the FLOPs that XLA counts; loops unrolled."""
    arch = tiny(num_hidden_layers=2, max_position_embeddings=LENGTH, head_dim=16)
    batch = packed([LENGTH], tokens(arch, length=LENGTH + 1))
    params = random_params(arch)

    def measured(policy):
        def loss(params):
            return summed_loss(bind(arch, params, {}, remat=policy, scan_unroll=2), batch)[0]

        compiled = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
        return arch, batch["tokens"].size, compiled(params), compiled.cost_analysis()["flops"]

    kept = {policy: measured(policy) for policy in POLICIES}
    return kept.__getitem__


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_a_policy_changes_no_number(policy, work):
    (loss, gradient), (expected, plain) = work(policy)[2], work("none")[2]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    for name, values in plain.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(gradient[name], values, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_what_is_computed_again_is_what_is_told(policy, work):
    """But for the scores, half of attention's products, which the dense backend never keeps."""
    arch, tokens, _, flops = work(policy)
    more = (flops - work("none")[3]) / tokens
    told = repeated_per_token(arch, LENGTH, (), policy)
    if policy != "attention":
        told -= repeated_per_token(arch, LENGTH, (), "matmuls") / 2
    assert 0.8 < more / told < 2, (more, told)  # a softmax is small beside a large layer alone


def test_policies_repeat_more_the_less_they_keep(tiny):
    arch = tiny(num_hidden_layers=4)
    again = {name: repeated_per_token(arch, 32, (), name) for name in POLICIES}
    assert again["none"] == 0
    assert again["full"] == again["matmuls"] + again["attention"]
    assert again["full"] < flops_per_token(arch, 32, shapes(arch)) - 2 * 96 * 32
    # Below the lowest layer that something trains in, nothing is asked for again.
    head = [name for name in shapes(arch) if name != "lm_head.weight"]
    assert repeated_per_token(arch, 32, head, "full") == 0
    upper = [f"{name}[0:2]" for name in shapes(arch) if "layers" in name]
    upper.append("model.embed_tokens.weight")
    assert repeated_per_token(arch, 32, upper, "full") == again["full"] / 2
