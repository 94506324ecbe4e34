"""BDNet through the engine: the same streams, settings and masks as of any other network."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.streaming import Segmenter, StreamSettings
from tdnet_ros.video.frame import Frame, MotionField

SIZE = (96, 128)
CLIP = DriveClip(*SIZE, seed=4)


def vectors(number: int) -> MotionField:
    """The clip's own motion to the frame before."""
    known, _ = CLIP.motion(number, number - 1)
    cells = known.reshape(SIZE[0] // 8, 8, SIZE[1] // 8, 8, 2).mean(axis=(1, 3)).astype(np.float32)
    return MotionField(cells, np.ones(cells.shape[:2], np.bool_))


FRAMES = [
    Frame(
        CLIP.picture(number), stamp_ns=number * 66_000_000, source="camera", motion=vectors(number) if number else None
    )
    for number in range(7)
]


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("bdnet_mnv2", None, "cpu", "fp32", input_height=SIZE[0], score_memory=0)


def test_every_fifth_frame_is_a_keyframe_and_the_others_are_carried_along(segmenter: Segmenter) -> None:
    stream = segmenter.stream()
    found = [stream.step(frame) for frame in FRAMES]
    assert [done.plan.keyframe_distance for done in found] == [0, 1, 2, 3, 4, 0, 1]
    assert [done.plan.keyframe for done in found] == [True, False, False, False, False, True, False]
    assert all(done.mask.shape == SIZE for done in found)
    alone = segmenter.stream()
    alone.settings = StreamSettings(keyframe_interval=1)
    by_itself = [alone.step(frame).mask for frame in FRAMES]
    still = segmenter.stream()
    still.settings = StreamSettings(motion="zero")
    unmoved = [still.step(frame).mask for frame in FRAMES]
    for number in (0, 5):
        assert np.array_equal(found[number].mask, by_itself[number])
    agree, agree_unmoved = (
        np.mean([masks[number] == by_itself[number] for number in (3, 4)])
        for masks in ([done.mask for done in found], unmoved)
    )
    assert agree > agree_unmoved, "motion makes them more like what the network sees there itself"


def test_the_image_between_keyframes_is_not_looked_at(segmenter: Segmenter) -> None:
    one, other = segmenter.stream(), segmenter.stream()
    one.step(FRAMES[0])
    other.step(FRAMES[0])
    black = Frame(np.zeros_like(FRAMES[1].image), FRAMES[1].stamp_ns, source="camera", motion=FRAMES[1].motion)
    found, blind = one.step(FRAMES[1]), other.step(black)
    assert not found.plan.keyframe and not blind.plan.keyframe
    assert np.array_equal(found.mask, blind.mask)
