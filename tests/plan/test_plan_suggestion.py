"""Which `remat` a plan suggests: the least repeated work that fits."""

import dataclasses

import pytest

from maxlite.config import Architecture, Config, resolve
from maxlite.model.memory import repeated_per_token
from maxlite.model.remat import POLICIES
from maxlite.plan import analytic, plan
from maxlite.plan.suggestion import suggest, told
from maxlite.plan.topology import parse

ARCH = Architecture(
    vocab_size=512,
    hidden_size=512,
    intermediate_size=1024,
    num_hidden_layers=16,
    num_attention_heads=8,
)
MESH = {"data": 1, "fsdp": 4, "sequence": 1, "tensor": 2}


def planned(**settings):
    config = Config(architecture=ARCH, batch_size=64, seq_len=512, **settings)
    return plan(resolve(config))


def test_the_less_room_the_more_is_repeated():
    one = planned(remat="full")
    takes = {name: one.activations(name, MESH) for name in POLICIES}
    assert takes["none"] > takes["matmuls"] > takes["attention"] > takes["full"]
    others = 1e9
    for name, mine in takes.items():
        room = others + mine
        assert suggest(one, others + takes["full"], room, MESH) == name
    assert suggest(one, others + takes["full"], others, MESH) == ""


def test_it_does_not_matter_under_which_policy_the_memory_was_told():
    room = 1e9 + planned().activations("matmuls")
    found = {
        own: suggest(planned(remat=own), 1e9 + planned().activations(own), room) for own in POLICIES
    }
    assert set(found.values()) == {"matmuls"}


@pytest.mark.parametrize("hbm_gib", [1.5, 1.0, 0.75, 0.6])
def test_what_is_suggested_fits_and_what_repeats_less_does_not(hbm_gib):
    machine = parse("h100:8")
    machine = dataclasses.replace(machine, chip=dataclasses.replace(machine.chip, hbm_gib=hbm_gib))
    mesh = "fsdp=4,tensor=2"
    several = {p: analytic.estimate(planned(remat=p), machine, mesh) for p in POLICIES}
    fits = {name: estimate.fits for name, estimate in several.items()}
    again = {name: repeated_per_token(ARCH, 512, (), name) for name in POLICIES}
    best = min((name for name in POLICIES if fits[name]), key=again.get, default="")
    assert {estimate.remat_suggested for estimate in several.values()} == {best}


def test_where_nothing_trains_in_the_layers_nothing_is_given_up():
    one = planned(train="output_rows", remat="full")
    assert suggest(one, 2e9, 2e9) == "none"


def test_it_is_told_to_people():
    assert told("matmuls", "none") == "remat: matmuls is the least that fits"
    assert told("full", "full") == "remat: full, as it is, is the least that fits"
    assert told("", "none") == "remat: no policy fits"
