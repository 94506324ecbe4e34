"""Streams of a network with keyframes: what they decide on real video, and what they make of trouble."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tiny_network import TinyUnitedVariant, TinyVariant, tiny_weights
from torch import Tensor
from video_packets import packets_of

from benchmarks.analytic_clip import DriveClip, encode
from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.networks.catalog import CATALOG, network_info
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.streaming import Segmentation, SegmentationStream, Segmenter, StreamSettings
from tdnet_ros.streaming.network_motion import NetworkMotion
from tdnet_ros.video.dense_flow import DenseFlow
from tdnet_ros.video.encoding import FOLLOWABLE
from tdnet_ros.video.frame import Break, Frame, MotionField
from tdnet_ros.video.motion import CodecMotion, SkippedMotion
from tdnet_ros.video.optical_flow import FlowMotion
from tdnet_ros.video.packet_decoder import PacketDecoder
from tdnet_ros.video.source_frames import moving_frames
from tdnet_ros.video.sources import VideoFile

HEIGHT, WIDTH = 128, 192
PERIOD_NS = 66_000_000
CLIP, OTHER_CLIP = DriveClip(HEIGHT, WIDTH, seed=1), DriveClip(HEIGHT, WIDTH, seed=2)
BETWEEN = "between keyframes"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def united() -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "united2", TinyUnitedVariant(subnetworks=2))
        yield Segmenter("united2", tiny_weights("united2"), "cpu")


@pytest.fixture(scope="module")
def tdnet() -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
        yield Segmenter("tiny2", tiny_weights("tiny2"), "cpu")


@cache
def picture(index: int, clip: DriveClip = CLIP) -> np.ndarray:
    return clip.picture(index)


def frame(index: int, image: np.ndarray | None = None, motion: MotionField | None = None) -> Frame:
    image = picture(index) if image is None else image
    return Frame(image, stamp_ns=1_000_000_000 + index * PERIOD_NS, motion=motion)


def h264(pictures: Sequence[np.ndarray], interval: int = 6, lost: int | None = None) -> list[Frame]:
    """Encoded with an I-frame every so many pictures and decoded again, without the packet that was lost."""
    options = {**FOLLOWABLE, "g": str(interval), "sc_threshold": "0"}
    packets = packets_of(encode(list(pictures), **options))
    decoder = PacketDecoder(vectors=True)
    sent = [packet for index, packet in enumerate(packets) if index != lost]
    found = [(packet.pts, done) for packet in sent for done in decoder.decode(packet)]
    return [frame(pts or 0, done.rgb(), done.motion) for pts, done in found]


def reasons(results: Sequence[Segmentation]) -> list[str]:
    return [result.plan.reason for result in results]


def segment(stream: SegmentationStream, frames: Sequence[Frame]) -> list[Segmentation]:
    return [stream.step(each) for each in frames]


def test_i_frames_and_the_interval_decide_on_encoded_video(united: Segmenter) -> None:
    frames = h264([picture(index) for index in range(12)])
    results = segment(united.stream(), frames)
    expected = ["first frame", *[BETWEEN] * 5, "I-frame", *[BETWEEN] * 5]
    assert reasons(results) == expected
    assert [result.plan.keyframe_distance for result in results] == [*range(6), *range(6)]
    assert [result.plan.subnetwork for result in results] == [0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0]
    assert all(result.times.motion_ms > 0 and result.warm == (index > 0) for index, result in enumerate(results))
    stream = united.stream()
    stream.settings = StreamSettings(keyframe_interval=4)
    found = reasons(segment(stream, frames))
    assert found == [
        *["first frame", BETWEEN, BETWEEN, BETWEEN, "keyframe interval", BETWEEN],
        *["I-frame", BETWEEN, BETWEEN, BETWEEN, "keyframe interval", BETWEEN],
    ]


def test_after_a_lost_packet_there_is_a_keyframe(united: Segmenter) -> None:
    frames = h264([picture(index) for index in range(6)], interval=12, lost=3)
    stream = united.stream()
    expected = ["first frame", BETWEEN, BETWEEN, "lost packet", BETWEEN]
    assert reasons(segment(stream, frames)) == expected
    assert stream.resets == 0
    measuring = united.stream()
    measuring.settings = StreamSettings(motion="flow")
    assert reasons(segment(measuring, frames)) == expected, "wherever the motion is from"


def test_a_keyframe_that_was_skipped_under_load_is_the_next_one_and_the_chain_starts_there(united: Segmenter) -> None:
    stream, skipped = united.stream(), SkippedMotion()
    results = {}
    for index, each in enumerate(h264([picture(index) for index in range(10)])):
        motion = skipped.follow(each.motion)
        if index in (1, 5, 6, 7):  # 6 is the I-frame
            continue
        results[index] = stream.step(replace(each, motion=motion)).plan
        skipped.hand_on()
    assert [plan.reason for plan in results.values()] == ["first frame", *[BETWEEN] * 3, "I-frame", BETWEEN]
    assert [plan.keyframe_distance for plan in results.values()] == [0, 2, 3, 4, 0, 1]


def test_raw_pictures_are_measured_and_their_motion_reaches_the_network(united: Segmenter) -> None:
    frames = [frame(index) for index in range(8)]
    masks = {}
    for motion in ("auto", "flow", "zero"):
        stream = united.stream()
        stream.settings = StreamSettings(motion=motion)
        results = segment(stream, frames)
        assert reasons(results) == ["first frame", *[BETWEEN] * 7]
        masks[motion] = results[7].mask
    assert np.array_equal(masks["auto"], masks["flow"])
    assert np.mean(masks["flow"] != masks["zero"]) > 0.01


def test_motion_is_handed_on_in_pixels_of_the_networks_image_on_its_grid() -> None:
    rows, columns = 17, 23  # of a frame of 130x180: the last row and column reach over the edge
    x, y = np.meshgrid(8 * np.arange(columns) + 4.0, 8 * np.arange(rows) + 4.0)
    displacement_px = np.dstack((x / 10, y / 5)).astype(np.float32)
    valid = x < 90
    found = NetworkMotion()(MotionField(displacement_px, valid), (130, 180), (65, 90))
    assert found.shape == (1, 3, 9, 12) and found.dtype == np.float32
    # Centres of the network's cells, in px of the frame; outermost ones lie beyond the last known value.
    across, down = (np.arange(12) + 0.5) * 180 / 12, (np.arange(9) + 0.5) * 130 / 9
    np.testing.assert_allclose(found[0, 0], np.tile(across / 10 / 2, (9, 1)), atol=1e-2)
    np.testing.assert_allclose(found[0, 1].T, np.tile(down / 5 / 2, (12, 1)), atol=1e-2)
    assert found[0, 2].tolist() == [[1.0] * 6 + [0.0] * 6] * 9


def test_interval_scale_and_source_may_change_while_the_stream_runs(united: Segmenter) -> None:
    stream = united.stream()
    assert reasons(segment(stream, [frame(index) for index in range(5)]))[-1] == BETWEEN
    stream.settings = StreamSettings(keyframe_interval=5, low_resolution=0.75)
    plans = [result.plan for result in segment(stream, [frame(index) for index in range(5, 8)])]
    assert [(plan.reason, plan.scale) for plan in plans] == [("keyframe interval", 1), (BETWEEN, 0.75), (BETWEEN, 0.75)]
    stream.settings = StreamSettings(keyframe_interval=1)
    results = segment(stream, [frame(index) for index in range(8, 10)])
    assert all(result.plan.keyframe for result in results)
    stream.settings = StreamSettings()
    plans = [result.plan for result in segment(stream, [frame(index) for index in range(10, 12)])]
    assert [plan.reason for plan in plans] == ["motion starts anew", BETWEEN]
    stream.request_keyframe("the driver said so")
    assert stream.step(frame(12)).plan.reason == "the driver said so"
    assert stream.resets == 0


def test_a_tdnet_can_be_told_to_alternate_and_else_pays_nothing(tdnet: Segmenter) -> None:
    stream = tdnet.stream()
    plans = [result.plan for result in segment(stream, [frame(index) for index in range(3)])]
    assert [(plan.keyframe, plan.scale, plan.reason) for plan in plans] == [(False, 1.0, "rotation")] * 3
    stream.settings = StreamSettings(keyframe_interval=3)
    plans = [result.plan for result in segment(stream, [frame(index) for index in range(3, 8)])]
    assert [plan.keyframe for plan in plans] == [True, False, False, True, False]
    assert [plan.scale for plan in plans] == [1, 0.5, 0.5, 1, 0.5]
    assert [plan.subnetwork for plan in plans] == [1, 0, 1, 0, 1]
    without_memory = Segmenter("tiny2", tiny_weights("tiny2"), "cpu", score_memory=0)
    assert np.isnan(without_memory.stream().step(frame(0)).times.motion_ms)


def test_the_scale_between_keyframes_is_the_networks_own_and_a_half_where_it_knows_none() -> None:
    settings, info = StreamSettings(), network_info("td2_mnv2")
    assert settings.scale(info) == 0.5
    assert settings.scale(replace(info, keyframe_interval=5, low_resolution=1.0)) == 1.0
    assert settings.scale(replace(info, keyframe_interval=12, low_resolution=0.3)) == 0.3
    assert StreamSettings(low_resolution=0.7).scale(replace(info, keyframe_interval=12)) == 0.7


def test_the_budget_goes_by_what_the_caller_reports(united: Segmenter) -> None:
    stream = united.stream()
    stream.settings = StreamSettings(latency_budget_ms=100, keyframe_interval=10)
    plans = []
    for index in range(24):
        plans.append(stream.step(frame(index)).plan)
        stream.report_latency(150 if index < 12 else 20)
        stream.report_latency(float("nan"))
    scales = [plan.scale for plan in plans if not plan.keyframe]
    assert scales[:4] == [0.5, 0.5, 0.5, 0.4] and min(scales) == 0.3
    assert plans[10].keyframe_distance == 10, "the interval is longer, too"
    assert all(plan.keyframe or "eased" in plan.reason for plan in plans[4:])


def drive(path: Path, count: int) -> list[np.ndarray]:
    with av.open(str(path)) as video:
        pictures = (each.to_ndarray(format="rgb24") for each in itertools.islice(video.decode(video=0), count))
        return [cv2.resize(each, (320, 180), interpolation=cv2.INTER_AREA) for each in pictures]


@pytest.mark.parametrize(
    "name",
    ["clip_0016E5_15hz", "video/solidWhiteRight", "video/udacity_vehicle_test_video"],
)
def test_a_drive_at_its_own_rate_has_no_cut(data_pack: Path, name: str) -> None:
    frames = list(itertools.islice(moving_frames(VideoFile(data_pack / f"{name}.mp4")), 101))
    for source in (CodecMotion(FlowMotion()), FlowMotion()):
        for each in frames:
            assert source.advance(each).broken is not Break.CUT
            source.make_keyframe()


def test_motion_and_memory_share_one_flow(united: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, between = [], DenseFlow.between
    monkeypatch.setattr(DenseFlow, "between", lambda *given: calls.append(1) or between(*given))
    raw, encoded = [frame(index) for index in range(4)], h264([picture(index) for index in range(4)])
    for frames, weight, expected in ((raw, 0.7, 3), (raw, 0.0, 3), (encoded, 0.7, 3), (encoded, 0.0, 0)):
        stream = united.stream()
        stream.memory.weight = weight
        calls.clear()
        segment(stream, frames)
        assert len(calls) == expected


@pytest.mark.parametrize("how", ["raw", "P-frame", "I-frame", "tdnet"])
def test_a_splice_of_two_drives_is_a_reset_and_nothing_else_is(
    united: Segmenter, tdnet: Segmenter, data_pack: Path, how: str
) -> None:
    videos = [
        drive(data_pack / "video" / f"{name}.mp4", 12) for name in ("solidWhiteRight", "udacity_vehicle_test_video")
    ]
    spliced = [*videos[0], *videos[1], *videos[0]]
    if how in ("raw", "tdnet"):
        frames = [frame(index, image) for index, image in enumerate(spliced)]
    else:
        frames = h264(spliced, interval=12 if how == "I-frame" else 100)
    segmenter = tdnet if how == "tdnet" else united
    results = segment(segmenter.stream(), frames)
    assert [index for index, result in enumerate(results) if result.reset_reason] == [12, 24]
    assert {results[12].reset_reason, results[24].reset_reason} == {"cut"}
    alone = segment(segmenter.stream(), frames[12:24])
    if how in ("raw", "tdnet"):  # a stream that begins in mid-video has not seen the same reasons
        for mixed, own in zip(results[12:24], alone, strict=True):
            assert np.array_equal(mixed.mask, own.mask), "nothing of the other scene is in it"


def test_a_frame_that_fails_leaves_keyframe_and_window_and_the_motion_goes_on_over_it(
    united: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, undisturbed = united.stream(), united.stream()
    segment(stream, [frame(index) for index in range(3)])
    before = stream.state
    with monkeypatch.context() as patch:
        patch.setattr(united.engine, "compute", lambda *_: (_ for _ in ()).throw(ImageError("no")))
        with pytest.raises(ImageError):
            stream.step(frame(3))
    assert stream.state is before
    plan = stream.step(frame(4)).plan
    assert (plan.reason, plan.keyframe_distance) == (BETWEEN, 4)
    assert segment(undisturbed, [frame(index) for index in range(5)])[-1].plan.keyframe_distance == 4


def test_cameras_in_step_are_batches_of_keyframes_and_of_frames_between(
    united: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = StreamSettings(keyframe_interval=4)
    cameras = [[picture(index, clip) for index in range(9)] for clip in (CLIP, OTHER_CLIP)]
    expected = []
    for pictures in cameras:
        stream = united.stream()
        stream.settings = settings
        expected.append(segment(stream, [frame(index, image) for index, image in enumerate(pictures)]))
    batches: list[tuple[int, bool]] = []
    compute = united.engine.compute

    def note(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        batches.append((image.shape[0], plan.fused))
        return compute(plan, image, *cached)

    monkeypatch.setattr(united.engine, "compute", note)
    streams = [united.stream() for _ in cameras]
    for stream in streams:
        stream.settings = settings
    for index in range(9):
        together = united.step_together(
            [(stream, frame(index, cameras[camera][index])) for camera, stream in enumerate(streams)]
        )
        for camera, result in enumerate(together):
            assert isinstance(result, Segmentation) and result.plan == expected[camera][index].plan
            assert np.mean(result.mask == expected[camera][index].mask) > 0.995
        if index == 0:
            assert set(batches) == {(2, False)}  # the first frame is looked at twice
            batches.clear()
    assert batches == [(2, index % 4 != 0) for index in range(1, 9)]
    streams[1].request_keyframe()
    batches.clear()
    united.step_together([(stream, frame(9, pictures[8])) for stream, pictures in zip(streams, cameras, strict=True)])
    assert sorted(batches) == [(1, False), (1, True)], "what needs another computation is another batch"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_after_the_warm_up_no_schedule_meets_a_step_that_is_not_ready(count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "united", TinyUnitedVariant(subnetworks=count))
        segmenter = Segmenter("united", tiny_weights("united"), "cpu", settings=StreamSettings(latency_budget_ms=100))
        patch.setattr(type(segmenter.engine), "prepares", True)
        segmenter.warm_up(HEIGHT, WIDTH)
    ready = set(segmenter.engine.prepared)
    assert {plan.scale for plan in ready} == {1.0, 0.5, 0.4, 0.3}
    stream, random = segmenter.stream(), np.random.default_rng(1)
    for index in range(60):
        if random.random() < 0.2:
            stream.request_keyframe()
        if random.random() < 0.05:
            stream.reset()
        stream.step(frame(index, picture(index % 8)))
        stream.report_latency(150 if index < 40 else 10)
    assert set(segmenter.engine.prepared) == ready


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keyframe_interval": -1}, "keyframe_interval is -1, expected at least 1, or 0 for the network's own"),
        ({"low_resolution": 0.01}, r"low_resolution is 0\.01, expected 0\.1 to 1, or 0 for the network's own"),
        ({"motion": "lidar"}, r"motion is 'lidar', expected one of \['auto', 'flow', 'zero'\]"),
        ({"cut_threshold": 0.0}, "cut_threshold is 0.0, expected more than 0 and at most 1"),
        ({"latency_budget_ms": float("nan")}, r"latency_budget_ms is nan, expected 0 ms \(off\) or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        StreamSettings(**settings)  # type: ignore[arg-type]
