"""BiSeNet's parts as a path: what each makes of its input. Against the official code: see test_parity_clips.py."""

from __future__ import annotations

import pytest
import torch
from lively_weights import make_lively
from torch import nn

from tdnet_ros.networks.bisenet import AttentionRefinement, BiSeNetPath, ContextPath, FeatureFusion
from tdnet_ros.networks.map_norm import MapNorm


def test_the_halves_of_the_fusion_are_the_two_sides_of_one_whole() -> None:
    whole = BiSeNetPath(0, 1)
    image = torch.rand(2, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    make_lively(whole, 3, lambda: whole(image))
    halves = []
    with torch.inference_mode():
        for group in (0, 1):
            half = BiSeNetPath(group, 2).eval()
            half.load_state_dict(whole.state_dict())
            halves.append(half(image).z)
            assert half.channels == 128
        expected = whole(image).z
    assert expected.shape == (2, 256, 9, 12)
    torch.testing.assert_close(torch.cat(halves, dim=1), expected, rtol=0, atol=1e-5)
    assert not torch.allclose(halves[0], halves[1], atol=0.1)


def test_a_gate_depends_on_channels_that_the_path_does_not_keep() -> None:
    """So the whole mix has to be computed, though half of it is given away."""
    fusion = FeatureFusion(8, group=0, groups=2)
    fine, context = torch.rand(2, 1, 4, 5, 6, generator=torch.Generator().manual_seed(2))
    make_lively(fusion, 3, lambda: fusion(fine, context))
    with torch.no_grad():
        fusion.squeeze.weight.abs_()
        before = fusion(fine, context)
        fusion.mix.conv.weight[4:] += 1
        assert not torch.allclose(fusion(fine, context), before, atol=1e-3)


def test_refinement_scales_each_channel_by_one_number_between_none_and_all() -> None:
    refinement = AttentionRefinement(6, 4)
    x = torch.rand(2, 6, 5, 7, generator=torch.Generator().manual_seed(3))
    make_lively(refinement, 5, lambda: refinement(x))
    with torch.inference_mode():
        ratio = refinement(x) / refinement.reduce(x)
    assert float((ratio.amax((2, 3)) - ratio.amin((2, 3))).max()) < 1e-4
    assert 0 < float(ratio.min()) < float(ratio.max()) < 1


def test_context_reaches_every_position_from_every_other() -> None:
    context = ContextPath()
    image = torch.rand(2, 3, 64, 960, generator=torch.Generator().manual_seed(4))
    make_lively(context, 3, lambda: context(image))
    changed = image.clone()
    changed[..., :40] = 0
    with torch.inference_mode():
        (fine, wide), (other_fine, other_wide) = context(image), context(changed)
    assert torch.equal(fine[..., -1], other_fine[..., -1])
    assert not torch.allclose(wide[..., -1], other_wide[..., -1], atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_map_norm_is_a_group_norm_of_single_channels_far_from_zero_too(layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 5, 12, 15, generator=generator) + 30 * torch.randn(2, 5, 1, 1, generator=generator)
    norm, reference = MapNorm(5), nn.GroupNorm(5, 5).double()
    for weight in norm.parameters():
        nn.init.uniform_(weight, -1, 2, generator=generator)
    reference.load_state_dict(norm.state_dict())
    result = norm(x.contiguous(memory_format=layout))
    torch.testing.assert_close(result.double(), reference(x.double()), rtol=0, atol=1e-4)
    assert result.is_contiguous(memory_format=layout)
