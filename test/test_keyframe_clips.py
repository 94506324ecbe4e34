"""Clips of a keyframe and a frame behind it: the motion leads where the picture comes from, and is honestly bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_training import HERE, picture

from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.warping import Warp
from tdnet_ros.training.block_transform import quantise_blocks
from tdnet_ros.training.configuration import AugmentationSettings, KeyframeSettings
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.frame_store import FrameStore
from tdnet_ros.training.keyframe_clips import KeyframeClips, KeyframeDrawing
from tdnet_ros.video.frame import Break, MotionField

CROP = (72, 96)
PLAIN = AugmentationSettings(crop=CROP, photometric=0.0)
EXACT = KeyframeSettings(
    pan_px=0.5, occluder_share=0, vector_noise_px=0, wrong_share=0, unknown_share=0, quantised_share=0
)
SHIFT_PX = 4.0


def stream(count: int, broken: int = -1) -> list[LabelledFrame]:
    """A picture whose columns move to the left by SHIFT_PX a frame; the frame ``broken`` has no motion."""
    wide = picture(1)
    frames = []
    for number in range(count):
        still = MotionField(np.full((9, 12, 2), (SHIFT_PX, 0), np.float32), np.ones((9, 12), np.bool_))
        first = number in (0, broken)
        motion = MotionField.without_path(72, 96, Break.INTRA if number else Break.START) if first else still
        turned = replace(
            wide,
            image=np.roll(wide.image, -round(SHIFT_PX) * number, 1),
            labels=np.roll(wide.labels, -round(SHIFT_PX) * number, 1),
            timestamp_s=number / 15,
            number=number,
            motion=motion,
        )
        frames.append(turned)
    return frames


def drawing(
    frames: list[LabelledFrame], settings: KeyframeSettings = EXACT, augmentation: AugmentationSettings = PLAIN
) -> KeyframeDrawing:
    return KeyframeDrawing(DeviceClips(FrameStore(frames, 11, HERE.device), augmentation, 1.0), settings)


def share_that_fits(clips: KeyframeClips, motion: torch.Tensor) -> float:
    """Of the labelled positions with known motion: where the keyframe has the current frame's label."""
    names = clips.labels.clone()
    names[names == UNLABELLED] = 11
    key = torch.nn.functional.one_hot(names[clips.keyframe], 12).permute(0, 3, 1, 2).float()
    warped = Warp()(key, motion, CROP)
    known = (clips.labels[-1] != UNLABELLED) & (warped[:, :11].amax(1) > 0.9)
    return float((warped.argmax(1) == clips.labels[-1])[known].float().mean())


def test_the_motion_of_a_still_picture_leads_to_the_keyframe() -> None:
    clips = drawing([picture(number) for number in range(4)]).batch((1,), 8, 12, before=1, between=1)
    assert clips.images.shape == (4, 8, 3, *CROP) and clips.labels.shape == (4, 8, *CROP) and clips.keyframe == 1
    assert clips.motion.shape == (8, 3, 9, 12) and clips.distance.tolist() != [int(clips.distance[0])] * 8
    assert share_that_fits(clips, clips.motion) > 0.95
    assert share_that_fits(clips, torch.zeros_like(clips.motion[:, :2])) < 0.85
    assert clips.motion[:, 2].mean() > 0.6, "most of it is known"
    assert torch.equal(clips.motion[:, :2], (4 * clips.motion[:, :2]).round() / 4), "a codec tells quarters"


def test_a_stream_keeps_its_own_frames_and_the_chain_of_its_motion() -> None:
    still = replace(PLAIN, scale=(2.0, 2.0), flip=False)
    made = drawing(stream(12), augmentation=still)
    clips = made.batch((2,), 16, 4)
    streamed = [number for number in range(16) if (clips.motion[number, 0] % (2 * SHIFT_PX) == 0).all()]
    assert len(streamed) >= 6
    for number in streamed:
        expected = 2 * SHIFT_PX * int(clips.distance[number])
        assert (clips.motion[number, 0] == expected).all() and (clips.motion[number, 1] == 0).all()
    assert share_that_fits(clips, clips.motion) > 0.9 > share_that_fits(clips, torch.zeros_like(clips.motion[:, :2]))
    mirrored = drawing(stream(12), augmentation=replace(PLAIN, scale=(1.0, 1.0))).batch((2,), 16, 4).motion[:, 0]
    assert (mirrored == -SHIFT_PX).all((1, 2)).any() and (mirrored == SHIFT_PX).all((1, 2)).any()


def test_no_clip_follows_a_stream_over_a_break() -> None:
    made = drawing(stream(6, broken=3))
    assert made.path_length == [0, 1, 2, 0, 1, 2]
    assert KeyframeDrawing(DeviceClips(FrameStore([picture(1)], 11, HERE.device), PLAIN, 1.0), EXACT).path_length == [0]


def test_distances_are_even_and_clips_of_a_batch_have_the_same_frames() -> None:
    made = drawing([picture(1)])
    found = [made.batch((seed,), 2, 5, before=3, between=3) for seed in range(200)]
    counts = np.bincount(torch.cat([clips.distance for clips in found]).numpy(), minlength=5)
    assert counts[0] == 0 and counts[1:].min() > 70
    for clips in found:
        assert len(clips.images) == 3 + 1 + min(3, int(clips.distance.min()) - 1) + 1
    whole, halves = made.batch((3,), 4, 12), [made.batch((3,), 4, 12, rank=rank, processes=2) for rank in (0, 1)]
    assert torch.equal(whole.images, torch.cat([half.images for half in halves], 1))
    assert torch.equal(whole.motion, torch.cat([half.motion for half in halves]))


@pytest.mark.parametrize(
    ("change", "worse"),
    [({"wrong_share": 0.5}, 0.02), ({"vector_noise_px": 4.0}, 0.02), ({"occluder_share": 1.0}, 0.02)],
)
def test_each_fault_makes_the_keyframe_tell_less(change: dict[str, float], worse: float) -> None:
    frames = [picture(number) for number in range(4)]
    clean, bad = (drawing(frames, told).batch((1,), 8, 12) for told in (EXACT, replace(EXACT, **change)))
    assert share_that_fits(bad, bad.motion) < share_that_fits(clean, clean.motion) - worse


def test_unknown_motion_and_coarse_pictures_are_made() -> None:
    frames = [picture(number) for number in range(4)]
    clean = drawing(frames).batch((1,), 8, 12)
    unknown = drawing(frames, replace(EXACT, unknown_share=0.6)).batch((1,), 8, 12)
    assert unknown.motion[:, 2].mean() < clean.motion[:, 2].mean() - 0.1
    coded = drawing(frames, replace(EXACT, quantised_share=1.0)).batch((1,), 8, 12)
    assert torch.equal(coded.labels, clean.labels) and torch.equal(coded.motion, clean.motion)
    assert 0.2 / 255 < (coded.images - clean.images).abs().mean() < 12 / 255


def test_a_block_transform_of_step_0_is_none_and_a_coarse_one_leaves_means() -> None:
    images = torch.rand(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(quantise_blocks(images, torch.zeros(2)), images, rtol=0, atol=1e-4)
    coarse = quantise_blocks(images, torch.tensor([900.0, 0.0]))
    assert coarse[0, :, :16].reshape(3, 2, 8, 3, 8).std((2, 4)).max() < 1e-5
    torch.testing.assert_close(coarse[1], images[1], rtol=0, atol=1e-4)
