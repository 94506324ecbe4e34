"""What a network costs: against counts of the official code and counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import build_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.cost import count_cost

#: GMAC of the official classes, steady and warm-up, counted in the same way: FlopCounterMode on meta tensors.
OFFICIAL = {
    ("td4_psp18", (1024, 2048)): (468.1, 414.9),
    ("td4_psp18", (769, 1537)): (257.4, 237.0),
    ("td4_psp18", (360, 480)): (35.3, 34.2),
    ("td2_psp50", (769, 1537)): (551.5, None),
    ("td2_psp50", (360, 480)): (78.0, None),
    ("psp18", (769, 1537)): (242.0, 242.0),
    ("psp50", (360, 480)): (121.4, 121.4),
    ("psp101", (769, 1537)): (1195.5, 1195.5),
}


@pytest.mark.parametrize(("model", "size"), OFFICIAL)
def test_official_counts_less_what_is_not_computed_twice(model: str, size: tuple[int, int]) -> None:
    """The official code computes the attention's fully-connected layer for every position of the frame, where we do
    so for the cached ones; and it encodes the cached positions a second time, where we pick them from the first.
    """
    official_steady, official_warm_up = OFFICIAL[model, size]
    cost = count_cost(model, size)
    rows, columns = (-(-side // 8) for side in size)
    cached = -(-rows // 4) * -(-columns // 4)
    saved = again = 0.0
    if model.startswith("td"):
        channels = 512 if model == "td4_psp18" else 2048  # of z
        saved = (rows * columns - cached) * 512 * 512 / 1e9
        again = cached * (channels * 64 + 64 * 64 + channels * 512) / 1e9
    assert cost.size == size
    assert cost.steady_gmac == pytest.approx(official_steady - saved - again, abs=0.15)
    if official_warm_up is not None:
        assert cost.warm_up_gmac == pytest.approx(official_warm_up - again, abs=0.15)


#: Parameters of the official classes, and those of the ImageNet classifiers that they carry along.
PARAMETERS = {
    "td4_psp18": (54_830_068, 4 * (512 * 1000 + 1000)),
    "td2_psp50": (65_368_570, 2 * (2048 * 1000 + 1000)),
    "psp18": (13_135_035, 512 * 1000 + 1000),
    "psp50": (48_764_347, 2048 * 1000 + 1000),
    "psp101": (67_756_475, 2048 * 1000 + 1000),
}


@pytest.mark.parametrize("model", PARAMETERS)
def test_parameters_are_the_official_ones_less_what_nothing_uses(model: str) -> None:
    """Unused: the classifiers, and the biases in front of a batch norm in each path's query and key."""
    official, classifiers = PARAMETERS[model]
    paths = CATALOG[model].subnetworks
    biases = 2 * 64 * paths if paths > 1 else 0
    cost = count_cost(model, (97, 129))
    assert cost.parameters == official - classifiers - biases
    assert cost.parameters_used * paths == cost.parameters


def test_a_step_that_is_really_computed_counts_the_same() -> None:
    network = build_network("td2_mnv2").eval()
    state, image = network.initial_state(), torch.zeros(1, 3, 90, 122)
    counts = []
    with torch.inference_mode():
        for frame in range(3):
            with FlopCounterMode(display=False) as counter:
                _, state = network.advance(image, state, frame % 2)
            counts.append(counter.get_total_flops() / 2e9)
    cost = count_cost("td2_mnv2", (90, 122))
    assert counts == [cost.warm_up_gmac, cost.steady_gmac, cost.steady_gmac]
    assert cost.steady_gmac > cost.warm_up_gmac


def test_the_size_is_by_default_that_of_the_weights_and_has_a_minimum() -> None:
    assert count_cost("td2_mnv2").size == (360, 480)
    with pytest.raises(ConfigurationError, match="size is 640x16, expected at least 32 px per side"):
        count_cost("td2_mnv2", (16, 640))
