"""Official files against the networks of the catalog: every key, every shape, nothing left over."""

from __future__ import annotations

import pytest
import torch
from official_listing import Listing, single_frame, tdnet
from torch import Tensor

from tdnet_ros.networks import build_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.checkpoints import read_checkpoint
from tdnet_ros.networks.loading import info_of, model_of
from tdnet_ros.networks.official_keys import family_of, rename_official
from tdnet_ros.networks.recognition import shapes_of

LISTINGS = {
    "td4_psp18": tdnet(4, 18),
    "td4_psp18, as its training saves it": tdnet(4, 18, auxiliary=True),
    "td2_psp50": tdnet(2, 50),
    "td2_psp50, as its training saves it": tdnet(2, 50, auxiliary=True),
    "psp18": single_frame(18),
    "psp50": single_frame(50),
    "psp101": single_frame(101),
}


def _tensors(listing: Listing) -> dict[str, Tensor]:
    """Tensors of those shapes without memory."""
    return {key: torch.empty(shape, device="meta") for key, shape in listing.items()}


def test_listings_have_as_many_entries_as_the_official_classes() -> None:
    """Counted on the official classes at @342f434, with whose keys and shapes these listings were compared."""
    counts = {case: len(listing) for case, listing in LISTINGS.items()}
    assert counts == {
        "td4_psp18": 728,
        "td4_psp18, as its training saves it": 760,
        "td2_psp50": 776,
        "td2_psp50, as its training saves it": 792,
        "psp18": 154,
        "psp50": 364,
        "psp101": 670,
    }


@pytest.mark.parametrize("form", ["as it is", "data parallel", "training"])
@pytest.mark.parametrize("case", LISTINGS)
def test_every_key_and_shape_of_an_official_file_is_that_of_our_network(case: str, form: str) -> None:
    tensors = _tensors(LISTINGS[case])
    source: dict[str, object] = dict(tensors)
    if form == "data parallel":
        source = {f"module.{key}": value for key, value in tensors.items()}
    elif form == "training":
        source = {"epoch": 1, "best_iou": 0.5, "model_state": tensors}
    checkpoint = read_checkpoint(source)
    model = case.partition(",")[0]
    assert model_of(checkpoint) == model
    assert info_of(checkpoint).input_size == CATALOG[model].input_size
    with torch.device("meta"):
        network = build_network(model)
    assert shapes_of(checkpoint.ours) == shapes_of(network.state_dict())


@pytest.mark.parametrize("case", LISTINGS)
def test_no_two_official_keys_become_one_and_no_shape_is_forced(case: str) -> None:
    listing = LISTINGS[case]
    family = family_of(listing)
    assert family is not None
    kept = [key for key in listing if not family.leaves_out(key)]
    renamed = rename_official(_tensors(listing))
    biases = sum(key.endswith(("w_qs.0.conv.bias", "w_ks.0.conv.bias")) for key in kept)
    assert len(renamed) == len(kept) - biases
    # Weights that are 1x1 convolutions there and linear layers here are all that changes its number of axes.
    axes = sorted(value.dim() for value in renamed.values())
    was = sorted(2 if ".fc.0.conv.weight" in key else len(listing[key]) for key in kept)
    assert len(axes) == len(was) - biases and set(axes) <= set(was)


def test_own_keys_belong_to_no_official_family() -> None:
    for model in CATALOG:
        with torch.device("meta"):
            keys = build_network(model).state_dict()
        assert family_of(keys) is None, model
        assert rename_official(keys).keys() == keys.keys()
