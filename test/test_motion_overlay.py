"""What `tdnet-ros segment --draw-motion` shows, and that a file's frames bring their bitstream's motion along."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.evaluation.motion_overlay import describe_plan, draw_motion
from tdnet_ros.streaming import Plan, Segmentation, StageTimes
from tdnet_ros.video.encoding import FOLLOWABLE
from tdnet_ros.video.frame import Break, MotionField
from tdnet_ros.video.source_frames import frames, moving_frames
from tdnet_ros.video.sources import VideoFile

HEIGHT, WIDTH = 160, 320
BLACK, GREY = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.full((HEIGHT, WIDTH, 3), 90, np.uint8)


def segmented(plan: Plan, motion: MotionField | None = None) -> Segmentation:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    return Segmentation(mask, None, plan, True, 0, None, StageTimes(1, 1, 1, 1), motion)


def between(scale: float) -> Segmentation:
    field = MotionField(np.full((20, 40, 2), (12, 0), np.float32), np.ones((20, 40), np.bool_), 3)
    field.valid[:, 20:] = False
    return segmented(Plan(1, scale, False, 3, "between keyframes"), field)


def test_a_keyframe_has_a_border_and_is_seen_at_full_resolution() -> None:
    drawn = draw_motion(BLACK, GREY, segmented(Plan(0, 1.0, True, 0, "I-frame")))
    assert drawn[-1].any(axis=1).all() and drawn[:, 0].any(axis=1).all() and not BLACK.any()
    assert (drawn == 90).all(axis=2).sum() == (HEIGHT // 5) * (WIDTH // 5)
    assert describe_plan(Plan(0, 1.0, True, 0, "I-frame")) == "keyframe (I-frame)"


@pytest.mark.parametrize("scale", [0.5, 0.25])
def test_a_frame_between_shows_its_motion_and_how_little_of_it_the_network_saw(scale: float) -> None:
    drawn = draw_motion(BLACK, GREY, between(scale))
    assert not drawn[-1].any(), "no border"
    seen = (drawn == 90).all(axis=2).sum()
    assert seen == pytest.approx(scale**2 * (HEIGHT // 5) * (WIDTH // 5), rel=0.1)
    known, guessed = drawn[60:, : WIDTH // 2 - 16], drawn[60:, WIDTH // 2 + 16 :]
    assert (known[known.any(axis=2)] == known[known.any(axis=2)][:, :1]).all(), "white"
    reds = guessed[guessed.any(axis=2)]
    assert len(reds) and (reds[:, 0] > reds[:, 1]).all()
    assert drawn[HEIGHT // 2 + 4, 100:140].any(axis=1).sum() >= 12, "as long as the way"
    assert describe_plan(between(scale).plan) == f"3 from keyframe, scale {scale}"
    assert describe_plan(Plan(1)) == "rotation"


def test_pictures_that_a_file_hides_are_no_frames(data_pack: Path) -> None:
    source = VideoFile(data_pack / "video" / "udacity_vehicle_test_small2.mp4")  # cut out of a longer one, not encoded
    moving = list(itertools.islice(moving_frames(source), 2))
    for one, other in zip(moving, frames(source), strict=False):
        assert np.array_equal(one.image, other.image)


def test_frames_of_an_h264_file_bring_their_motion_along(tmp_path: Path) -> None:
    clip, path = DriveClip(96, 128, seed=1), tmp_path / "clip.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.options = 128, 96, "yuv420p", {**FOLLOWABLE, "g": "4"}
        for index in range(6):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(clip.picture(index), format="rgb24")))
        file.mux(stream.encode())
    source = VideoFile(path)
    moving, still = list(moving_frames(source)), list(frames(source))
    assert len(moving) == len(still) == 6
    for one, other in zip(moving, still, strict=True):
        assert np.array_equal(one.image, other.image) and one.stamp_ns == other.stamp_ns
    told = [None if each.motion is None else each.motion.broken for each in moving]
    assert told == [Break.START, None, None, None, Break.INTRA, None]
    assert all(each.motion is None for each in moving_frames(VideoFile(path, rate_hz=5)))
