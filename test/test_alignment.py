"""Cameras that have fallen out of step come back into the others' batch, with the masks that their windows give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from tiny_network import TinyUnitedVariant, TinyVariant, tiny_weights
from torch import Tensor

from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.streaming import Segmentation, SegmentationStream, Segmenter, StreamSettings
from tdnet_ros.streaming.stream import IN_TURN_FRAMES
from tdnet_ros.video.frame import Break, Frame, MotionField

SIZE = (64, 96)
CAMERAS = 4
INTERVAL = 12

pytestmark = pytest.mark.usefixtures("one_thread")


def segmenter_of(**variant: TinyVariant) -> Segmenter:
    ((name, row),) = variant.items()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, name, row)
        return Segmenter(name, tiny_weights(name), "cpu", score_memory=0.0)


@pytest.fixture(scope="module")
def tiny2() -> Segmenter:
    return segmenter_of(tiny2=TinyVariant(subnetworks=2))


@pytest.fixture(scope="module")
def tiny4() -> Segmenter:
    return segmenter_of(tiny4=TinyVariant(subnetworks=4))


@pytest.fixture(scope="module")
def united4() -> Segmenter:
    return segmenter_of(united4=TinyUnitedVariant(subnetworks=4))


@pytest.fixture(scope="module")
def arseg() -> Segmenter:
    return segmenter_of(arseg1=TinyUnitedVariant(subnetworks=1))


@pytest.fixture(params=["tiny2", "tiny4", "united4", "arseg"])
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    found: Segmenter = request.getfixturevalue(request.param)
    return found


def scene(camera: int) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(camera).integers(0, 256, (4, 6, 3), np.uint8)
    return np.asarray(cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


SCENES = [scene(camera) for camera in range(CAMERAS)]


def frame(camera: int, index: int) -> Frame:
    """Of a camera that stands; one picture differs from the next by its brightness."""
    return Frame(np.clip(SCENES[camera], index % 7, 255), stamp_ns=1_000_000_000 + index * 50_000_000)


def streams_of(segmenter: Segmenter, count: int = CAMERAS) -> list[SegmentationStream]:
    streams = [segmenter.stream() for _ in range(count)]
    for stream in streams:
        stream.settings = StreamSettings(motion="zero", cut_threshold=1.0)
    return streams


Steps = list[dict[int, Segmentation]]


def run(
    segmenter: Segmenter,
    streams: Sequence[SegmentationStream],
    indices: range,
    is_there: Callable[[int, int], bool] = lambda camera, index: True,
    picture: Callable[[int, int], Frame] = frame,
) -> Steps:
    """By step what became of the frames of the cameras that were there."""
    steps: Steps = []
    for index in indices:
        there = [camera for camera in range(len(streams)) if is_there(camera, index)]
        results = segmenter.step_together([(streams[camera], picture(camera, index)) for camera in there])
        assert all(isinstance(result, Segmentation) for result in results), results
        steps.append({camera: x for camera, x in zip(there, results, strict=True) if isinstance(x, Segmentation)})
    return steps


def batches(step: dict[int, Segmentation]) -> int:
    """Frames of one batch share their times."""
    return len({id(result.times) for result in step.values()})


@pytest.fixture
def sources(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[StepPlan]]:
    """The plans that reach the network."""
    seen: list[StepPlan] = []
    compute = segmenter.engine.compute

    def note(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        seen.append(plan)
        return compute(plan, image, *cached)

    monkeypatch.setattr(segmenter.engine, "compute", note)
    yield seen


def test_a_camera_that_loses_an_image_now_and_then_is_back_in_the_batch_within_a_window(segmenter: Segmenter) -> None:
    streams, lost = streams_of(segmenter), (17, 31, 45, 58)
    steps = run(segmenter, streams, range(72), lambda camera, index: camera != 2 or index not in lost)
    images = sum(len(step) for step in steps)
    assert images / sum(batches(step) for step in steps) > 3, "images per step"
    window = max(segmenter.network.info.subnetworks, 1)
    # A keyframe is counted from the last one: the camera is one behind until the next at most.
    longest = INTERVAL if segmenter.settings.alternates(segmenter.network.info) else window
    for index in lost:
        assert batches(steps[index + longest]) == 1
        apart = [step for step in steps[index + 1 : index + longest] if batches(step) > 1]
        assert len(apart) < window, "apart for less than a window"
    assert all(result.warm for step in steps[window:] for result in step.values())
    assert [stream.resets for stream in streams] == [0] * CAMERAS


@pytest.mark.parametrize("segmenter", ["tiny2", "tiny4"], indirect=True)
def test_masks_are_those_of_the_newest_entry_of_each_sub_network(segmenter: Segmenter) -> None:
    """Against the network itself, told the sub-networks one by one."""
    streams = streams_of(segmenter)
    steps = run(segmenter, streams, range(40), lambda camera, index: camera != 2 or index not in (9, 10, 23))
    plain = segmenter.stream()
    for camera in range(CAMERAS):
        state = segmenter.network.initial_state()
        for index, step in enumerate(steps):
            if camera not in step:
                continue
            with torch.inference_mode():
                image = plain.preprocess(frame(camera, index), SIZE)
                scores, state = segmenter.network.advance(image, state, step[camera].plan.subnetwork)
                expected = segmenter.network.decode_mask(scores, SIZE).mask[0].numpy()
            assert np.mean(step[camera].mask == expected) > 0.999
    turns = [step[2].plan.subnetwork for step in steps if 2 in step]
    rotation = [index % segmenter.network.info.subnetworks for index in range(len(turns))]
    assert turns != rotation, "the camera left the rotation"
    told = [step[2].plan.reason for step in steps if 2 in step]
    assert told.count("rotation, with the other cameras") == len(told) - told.count("rotation") > 0


@pytest.mark.parametrize("segmenter", ["tiny4"], indirect=True)
def test_the_window_is_in_the_order_of_its_age(segmenter: Segmenter, sources: list[StepPlan]) -> None:
    streams = streams_of(segmenter)
    run(segmenter, streams, range(8))
    run(segmenter, streams, range(8, 9), lambda camera, index: camera != 3)
    sources.clear()
    run(segmenter, streams, range(9, 12))
    assert sources == [
        *(StepPlan(1, (2, 3, 0)), StepPlan(1, (0, 2, 3))),
        *(StepPlan(2, (3, 0, 1)), StepPlan(2, (0, 3, 1))),
        StepPlan(3, (0, 1, 2)),
    ], "one entry is older than it would be, until its sub-network's turn"


def test_no_sub_network_is_left_out_for_long(tiny4: Segmenter) -> None:
    """Of a camera that misses every fifth image, and so is behind all the time."""
    streams = streams_of(tiny4)
    steps = run(tiny4, streams, range(100), lambda camera, index: camera != 1 or index % 5 != 4)
    turns = [step[1].plan.subnetwork for step in steps if 1 in step]
    for subnetwork in range(4):
        at = [index for index, turn in enumerate(turns) if turn == subnetwork]
        assert max(np.diff(at)) <= 7
    out_of_turn = [index for index in range(1, len(turns)) if turns[index] != (turns[index - 1] + 1) % 4]
    assert len(out_of_turn) > 5 and min(np.diff(out_of_turn)) > IN_TURN_FRAMES


def test_a_camera_after_a_reset_fills_its_window_in_order_and_then_joins(tiny4: Segmenter) -> None:
    streams = streams_of(tiny4)
    run(tiny4, streams, range(9))
    streams[0].reset()
    steps = run(tiny4, streams, range(9, 16))
    assert [step[0].plan.subnetwork for step in steps[:4]] == [0, 1, 2, 3]
    assert [step[0].warm for step in steps] == [False] * 3 + [True] * 4
    assert [batches(step) for step in steps[-2:]] == [1, 1]


@pytest.mark.parametrize("segmenter", ["tiny4"], indirect=True)
def test_an_engine_whose_steps_take_time_to_make_ready_keeps_to_the_rotation(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(segmenter.engine), "any_order", False)
    steps = run(segmenter, streams_of(segmenter), range(20), lambda camera, index: camera != 2 or index != 9)
    assert all(result.plan.reason == "rotation" for step in steps for result in step.values())
    assert batches(steps[-1]) == 2


def keyframes(steps: Steps, camera: int) -> list[int]:
    return [index for index, step in enumerate(steps) if camera in step and step[camera].plan.keyframe]


def test_keyframes_come_together_again(united4: Segmenter) -> None:
    """A camera's own keyframe sets it apart; the next that is due takes the other along, half an interval after its
    last one or later."""
    streams = streams_of(united4, 2)
    steps: Steps = []
    for asked, until in ((5, 32), (32, 60)):
        steps += run(united4, streams, range(len(steps), asked))
        streams[1].request_keyframe()
        steps += run(united4, streams, range(len(steps), until))
    assert keyframes(steps, 0) == [0, 12, 24, 36, 44, 56]
    assert keyframes(steps, 1) == [0, 5, 12, 24, 32, 44, 56]
    assert steps[12][1].plan.reason == steps[44][0].plan.reason == "keyframe with the other cameras"
    assert all(batches(step) == 1 for step in (*steps[12:32], *steps[44:]))


def test_i_frames_of_encoders_that_are_apart_stay_apart(arseg: Segmenter) -> None:
    rows, columns = SIZE[0] // 8, SIZE[1] // 8
    moved = MotionField(np.zeros((rows, columns, 2), np.float32), np.ones((rows, columns), np.bool_))

    def coded(camera: int, index: int) -> Frame:
        is_intra = index % INTERVAL == 5 * camera
        return replace(frame(camera, index), motion=MotionField.without_path(*SIZE, Break.INTRA) if is_intra else moved)

    streams = [arseg.stream() for _ in range(2)]
    steps = run(arseg, streams, range(3 * INTERVAL), picture=coded)
    assert keyframes(steps, 0) == [0, 12, 24] and keyframes(steps, 1) == [0, 5, 17, 29]
