"""Motion to the keyframe, from the bitstream, measured and zero, against what is known of a drawn clip."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_packets import decode_all, packets_of

from benchmarks import motion as benchmark
from benchmarks.analytic_clip import DriveClip, encode
from benchmarks.motion import follow
from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.video.encoding import FOLLOWABLE
from tdnet_ros.video.frame import CELL_PX, Break, Frame, MotionField, grid_size
from tdnet_ros.video.motion import CodecMotion, MotionChain, SkippedMotion, ZeroMotion
from tdnet_ros.video.optical_flow import FlowMotion

CLIP, OTHER_CLIP = DriveClip(240, 320, seed=1), DriveClip(240, 320, seed=2)
#: Distance of the last picture of a group from its keyframe.
LAST = 11


@cache
def picture(clip: DriveClip, index: int) -> np.ndarray:
    return clip.picture(index)


@cache
def decoded(**options: str) -> list[Frame]:
    """The clip's first group of pictures, encoded and decoded again."""
    packets = encode([picture(CLIP, index) for index in range(LAST + 1)], **(options or FOLLOWABLE))
    return [Frame(found.rgb(), motion=found.motion) for found in decode_all(packets_of(packets))[0]]


def endpoint_error_px(field: MotionField, index: int, reference: int) -> float:
    """Mean over the pixels whose place was to be seen in the reference."""
    known, seen = CLIP.motion(index, reference)
    rows, columns = field.valid.shape
    full = cv2.resize(field.displacement_px, (columns * CELL_PX, rows * CELL_PX), interpolation=cv2.INTER_LINEAR)
    error = np.hypot(*np.moveaxis(full[: CLIP.height, : CLIP.width] - known, -1, 0))
    return float(error[seen].mean())


def test_vectors_of_the_bitstream_are_chained_to_the_keyframe() -> None:
    fields = follow(CodecMotion(ZeroMotion()), decoded())
    assert fields[0].broken is Break.START
    assert [field.frames for field in fields] == list(range(LAST + 1))
    assert endpoint_error_px(fields[1], 1, 0) < 0.4
    assert endpoint_error_px(fields[LAST], LAST, 0) < 1.2
    assert all(field.unusable_share < 0.1 for field in fields[1:])
    # What stands against it: without motion the error is the whole displacement, of some 14 px.
    assert endpoint_error_px(follow(ZeroMotion(), decoded())[LAST], LAST, 0) > 10


def test_measured_motion_is_chained_too() -> None:
    fields = follow(FlowMotion(), [Frame(picture(CLIP, index)) for index in range(LAST + 1)])
    assert fields[0].broken is Break.START
    assert endpoint_error_px(fields[1], 1, 0) < 0.8
    assert endpoint_error_px(fields[LAST], LAST, 0) < 5.5


def test_motion_leads_to_the_keyframe_that_was_made_last() -> None:
    source = CodecMotion(ZeroMotion())
    fields = []
    for index, frame in enumerate(decoded()):
        fields.append(source.advance(frame))
        if index in (0, 6):
            source.make_keyframe()
    assert fields[6].frames == 6 and fields[LAST].frames == LAST - 6
    assert np.array_equal(fields[7].displacement_px, decoded()[7].motion.displacement_px)
    assert endpoint_error_px(fields[LAST], LAST, 6) < 1.2


def test_pictures_that_are_decoded_but_skipped_break_no_chain() -> None:
    whole = follow(CodecMotion(ZeroMotion()), decoded())
    source, skipped = CodecMotion(ZeroMotion()), SkippedMotion()
    for index, frame in enumerate(decoded()):
        motion = skipped.follow(frame.motion)
        if index % 3 == 0:
            skipped.hand_on()
            field = source.advance(Frame(frame.image, motion=motion))
            if index == 0:
                source.make_keyframe()
    assert field.frames == 9
    assert np.abs(field.displacement_px - whole[9].displacement_px).mean() < 0.1


def test_an_i_frame_or_a_gap_that_was_skipped_still_breaks_the_chain() -> None:
    known = MotionField(np.zeros((2, 3, 2), np.float32), np.ones((2, 3), np.bool_))
    for reason in (Break.INTRA, Break.LOSS):
        skipped = SkippedMotion()
        skipped.follow(known)
        skipped.follow(MotionField.without_path(16, 24, reason))
        found = skipped.follow(known)
        assert found is not None and found.broken is reason
        skipped.hand_on()
        assert skipped.follow(known) is known or skipped.follow(known).broken is None
    skipped = SkippedMotion()
    skipped.follow(None)
    assert skipped.follow(known) is None
    broken = skipped.follow(MotionField.without_path(16, 24, Break.LOSS))
    assert broken is not None and broken.broken is Break.LOSS


def test_a_broken_chain_stays_broken_until_there_is_a_keyframe() -> None:
    known = MotionField(np.full((2, 3, 2), 1, np.float32), np.ones((2, 3), np.bool_))
    chain = MotionChain()
    assert chain.follow(known).broken is None
    chain.follow(MotionField.without_path(16, 24, Break.LOSS))
    after = chain.follow(known)
    assert after.broken is Break.LOSS and not after.valid.any() and not after.displacement_px.any()
    chain.restart()
    assert np.array_equal(chain.follow(known).displacement_px, known.displacement_px)


def test_what_has_left_the_picture_or_was_guessed_is_not_valid() -> None:
    step = MotionField(np.full((4, 4, 2), (-8, 0), np.float32), np.ones((4, 4), np.bool_))
    step.valid[1, 2] = False
    chain = MotionChain()
    one, two = chain.follow(step), chain.follow(step)
    assert one.valid[0].tolist() == [False, True, True, True], "what comes from beyond the edge"
    assert one.valid[1].tolist() == [False, True, False, True]
    assert two.valid[1].tolist() == [False, False, False, False], "its way leads through the guess, too"
    assert two.valid[0].tolist() == [False, False, True, True]
    assert (two.displacement_px[0, 3] == (-16, 0)).all()


@pytest.mark.parametrize("measured", [False, True])
def test_a_cut_between_keyframes_forces_one(measured: bool) -> None:
    pictures = [picture(CLIP, 0), picture(CLIP, 1), picture(OTHER_CLIP, 0), picture(OTHER_CLIP, 1)]
    found = decode_all(packets_of(encode(pictures, **FOLLOWABLE, sc_threshold="0")))[0]
    assert [bool(frame.picture.key_frame) for frame in found] == [True, False, False, False]
    source = FlowMotion() if measured else CodecMotion(FlowMotion())
    frames = [Frame(frame.rgb(), motion=None if measured else frame.motion) for frame in found]
    assert [field.broken for field in follow(source, frames)] == [Break.START, None, Break.CUT, None]


def test_a_stream_without_usable_vectors_is_measured() -> None:
    """With three references motion starts as that of the bitstream and goes on as measured, in one chain."""
    frames = decoded(**{**FOLLOWABLE, "refs": "3"})
    assert [frame.motion is None for frame in frames] == [False, False] + [True] * (LAST - 1)
    fields = follow(CodecMotion(FlowMotion()), frames)
    assert [index for index, field in enumerate(fields) if field.broken] == [0]
    assert [field.frames for field in fields[:4]] == [0, 1, 2, 3]
    assert endpoint_error_px(fields[3], 3, 0) < 1.2


@pytest.mark.parametrize("hidden", [True, False])
def test_a_cut_hidden_in_an_i_frame_is_seen_and_one_that_only_the_vectors_claim_is_none(hidden: bool) -> None:
    following = picture(OTHER_CLIP if hidden else CLIP, 2)
    field = MotionField(np.zeros((30, 40, 2), np.float32), np.zeros((30, 40), np.bool_))
    told = MotionField.without_path(240, 320, Break.INTRA) if hidden else field
    source = CodecMotion(FlowMotion())
    known = MotionField(field.displacement_px, np.ones((30, 40), np.bool_))
    for index, motion in enumerate((MotionField.without_path(240, 320, Break.START), known)):
        source.advance(Frame(picture(CLIP, index), motion=motion))
    source.make_keyframe()
    found = source.advance(Frame(following, motion=told))
    assert (found.broken is Break.CUT) == hidden
    assert found.unusable_share == 1


def test_fields_fit_sizes_that_are_no_multiple_of_the_cell() -> None:
    rng = np.random.default_rng(3)
    large = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), np.uint8), (0, 0), 2)
    large = cv2.normalize(large, None, 0, 255, cv2.NORM_MINMAX)
    for height, width in ((77, 101), (64, 33)):
        frames = [Frame(np.ascontiguousarray(large[5 : 5 + height, at : at + width])) for at in (5, 7)]
        field = follow(FlowMotion(), frames)[1]
        assert field.valid.shape == grid_size(height, width) == (-(-height // 8), -(-width // 8))
        assert np.median(field.displacement_px[1:-1, 1:-1], axis=(0, 1)) == pytest.approx((2, 0), abs=0.3)


def test_another_size_starts_afresh() -> None:
    for source in (FlowMotion(), ZeroMotion(), CodecMotion(FlowMotion())):
        small, large = Frame(picture(CLIP, 0)[:120, :160]), Frame(picture(CLIP, 0))
        reasons = [source.advance(frame).broken for frame in (small, large)]
        source.make_keyframe()
        assert reasons == [Break.START, Break.START]
        assert source.advance(large).broken is None
        source.reset()
        assert source.advance(large).broken is Break.START
    step = MotionField(np.zeros((2, 3, 2), np.float32), np.ones((2, 3), np.bool_))
    chain = MotionChain()
    chain.follow(step)
    with pytest.raises(ImageError, match="motion field is 2x3 cells, expected 3x2"):
        chain.follow(MotionField(np.zeros((3, 2, 2), np.float32), np.ones((3, 2), np.bool_)))


def test_settings_and_pictures_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"cut_share is 1\.5, expected more than 0 and at most 1"):
        FlowMotion(cut_share=1.5)
    with pytest.raises(ImageError, match=r"motion has \(2, 3\) cells, expected \(3, 2\) for an image of 16x24"):
        Frame(np.zeros((24, 16, 3), np.uint8), motion=MotionField.without_path(16, 24, Break.START))
    with pytest.raises(ImageError, match="image size is 24x40, expected at least 32x32"):
        FlowMotion().step(Frame(np.zeros((40, 24, 3), np.uint8)))


def test_the_benchmark_measures_every_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, threads = tmp_path / "motion.json", cv2.getNumThreads()
    try:
        assert benchmark.main(["--force", "--sizes", "160x96", "--rounds", "2", "--json", str(file)]) == 0
    finally:
        cv2.setNumThreads(threads)
    (result,) = json.loads(file.read_text())["results"]
    errors, ways = result["errors"], result["times"]["ways"]
    assert errors["vectors, medium"]["near_mean_px"] < 0.5 < errors["zero"]["near_mean_px"]
    assert len(ways) == 4 and all(row["p50"] > 0 for row in ways.values())
    assert "endpoint error in px" in capsys.readouterr().out
