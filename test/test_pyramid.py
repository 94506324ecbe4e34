"""Pyramid pooling, group by group."""

from __future__ import annotations

import pytest
import torch

from tdnet_ros.networks.heads import PyramidPooling
from tdnet_ros.networks.layers import fold_batch_norm


@pytest.mark.parametrize("group", [0, 1])
def test_folding_keeps_the_rows_of_the_group_and_the_result(group: int) -> None:
    torch.manual_seed(3)
    whole, share = PyramidPooling(32, 0, 1), PyramidPooling(32, group, 2)
    x = torch.randn(2, 32, 9, 11)
    with torch.no_grad():
        whole(x)  # gives the batch norms statistics of their own
        share.load_state_dict(whole.eval().state_dict())
        parts = whole(x).split([32, 8, 8, 8, 8], dim=1)
        expected = torch.cat([part.chunk(2, dim=1)[group] for part in parts], dim=1)
        torch.testing.assert_close(share.eval()(x), expected)
        for _ in range(2):  # folding what is folded changes nothing
            fold_batch_norm(share)
            torch.testing.assert_close(share(x), expected)
    assert all(reduce.conv.weight.shape == (4, 32, 1, 1) and reduce.conv.bias.shape == (4,) for reduce in share.pooled)
