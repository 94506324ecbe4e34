"""decode_mask against the upsampled scores in full."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.networks import masks
from tdnet_ros.networks.masks import decode_mask

#: Score grid and mask size: the strides of the models, odd sizes, one row or column, smaller than the grid.
SIZES = [((9, 13), (65, 97)), ((23, 31), (90, 122)), ((12, 16), (361, 487)), ((1, 5), (8, 33)), ((20, 20), (7, 9))]


@pytest.fixture(params=["one strip", "many strips"])
def strips(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A strip of a single row, or the usual ones; both must give the same mask."""
    if request.param == "many strips":
        monkeypatch.setitem(masks._STRIP_FLOATS, "cpu", 1)


def _scores(grid: tuple[int, int], batch: int = 1, classes: int = 11) -> Tensor:
    return 3 * torch.randn(batch, classes, *grid, generator=torch.Generator().manual_seed(5))


def _upsampled(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    return F.interpolate(scores.double(), size, mode="bilinear", align_corners=align_corners)


@pytest.mark.usefixtures("strips")
@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("grid", "size"), SIZES)
@pytest.mark.parametrize("confidence", [False, True])
def test_the_mask_is_the_argmax_of_the_upsampled_scores(
    grid: tuple[int, int], size: tuple[int, int], align_corners: bool, confidence: bool
) -> None:
    scores = _scores(grid, batch=2)
    full = _upsampled(scores, size, align_corners)
    mask, certainty = decode_mask(scores, size, align_corners, confidence)
    assert mask.dtype == torch.uint8 and mask.shape == (2, *size)
    chosen = full.gather(1, mask.long()[:, None])[:, 0]
    assert (full.amax(1) - chosen).max() < 1e-5  # a tie may fall either way
    assert (mask != full.argmax(1)).float().mean() < 1e-3
    if not confidence:
        assert certainty is None
        return
    assert certainty is not None and certainty.dtype == torch.uint8 and certainty.shape == mask.shape
    expected = torch.round(255 * full.softmax(1).amax(1))
    assert (certainty.double() - expected).abs().max() <= 1


def test_strips_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = _scores((12, 16))
    whole = decode_mask(scores, (90, 122), True, confidence=True)
    monkeypatch.setitem(masks._STRIP_FLOATS, "cpu", 11 * 122 * 7)  # 7 rows: 90 is not a multiple
    parts = decode_mask(scores, (90, 122), True, confidence=True)
    assert torch.equal(whole.mask, parts.mask)
    assert whole.confidence is not None and parts.confidence is not None
    assert torch.equal(whole.confidence, parts.confidence)


def test_scores_in_channels_last_give_the_same_mask() -> None:
    scores = _scores((23, 31))
    expected = decode_mask(scores, (90, 122), False).mask
    assert torch.equal(decode_mask(scores.to(memory_format=torch.channels_last), (90, 122), False).mask, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_scores_lose_only_what_they_cannot_hold(dtype: torch.dtype) -> None:
    scores = _scores((23, 31)).to(dtype)
    mask, certainty = decode_mask(scores, (90, 122), False, confidence=True)
    full = _upsampled(scores, (90, 122), False)
    assert (mask == full.argmax(1)).float().mean() > 0.99
    assert certainty is not None
    assert (certainty.double() - 255 * full.softmax(1).amax(1)).abs().max() <= 255 * 8 * torch.finfo(dtype).eps


def test_the_label_of_the_last_class_can_be_chosen() -> None:
    scores = torch.zeros(1, 19, 4, 4)
    scores[:, 18, :, 2:] = 9.0
    mask, _ = decode_mask(scores, (16, 16), False)
    assert mask[0, 0, 0] == 0 and mask[0, 0, 15] == 18


def _smooth(grid: tuple[int, int], classes: int = 11) -> Tensor:
    """Few boundaries, as a network's scores have them."""
    return F.interpolate(_scores((4, 5), classes=classes), grid, mode="bicubic")


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("size", [(193, 257), (196, 260), (90, 77), (30, 20)])
def test_blending_at_boundaries_alone_is_the_dense_argmax(size: tuple[int, int], align_corners: bool) -> None:
    scores = _smooth((25, 33))
    dense = masks._decode_densely(scores, size, align_corners, confidence=False).mask
    mask = masks._decode_boundaries(scores[0], size, align_corners)
    full = _upsampled(scores, size, align_corners).topk(2, dim=1).values
    decided = (full[0, 0] - full[0, 1]) > 1e-5
    assert torch.equal(mask[decided], dense[0][decided])
    assert decided.float().mean() > 0.99


def test_ties_go_to_the_lowest_class_at_boundaries_too() -> None:
    # Small whole numbers at scale 2 and 4: every blend is exact, so many pixels are exact ties.
    scores = torch.randint(0, 3, (1, 5, 17, 33), generator=torch.Generator().manual_seed(6)).float()
    for size in ((33, 65), (65, 129)):
        full = _upsampled(scores, size, align_corners=True)
        assert (full.topk(2, dim=1).values.diff(dim=1) == 0).float().mean() > 0.1
        lowest = (full == full.amax(1, keepdim=True)).to(torch.uint8).argmax(1)
        assert torch.equal(_blended_everywhere(scores, size), lowest[0])
    assert masks._decode_boundaries(torch.ones(3, 9, 9), (65, 65), True).sum() == 0


def _blended_everywhere(scores: Tensor, size: tuple[int, int]) -> Tensor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_MOSTLY_MIXED", 2.0)
        return masks._decode_boundaries(scores[0], size, align_corners=True).long()
