"""Several cameras over one set of weights: one step for all gives what each alone would get."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from tiny_network import TinyVariant, tiny_weights
from torch import Tensor

from tdnet_ros.errors import StaleFrame, StateError
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.streaming import Segmentation, SegmentationStream, Segmenter
from tdnet_ros.streaming.together import Retreat
from tdnet_ros.video.frame import Frame

SIZE = (64, 96)
# Of a batch the kernels may add in another order: a pixel on a border may fall to the other side.
AGREEMENT = 0.999


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny4() -> Iterator[Segmenter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny4", TinyVariant(subnetworks=4))
        yield Segmenter("tiny4", tiny_weights("tiny4"), "cpu")


@pytest.fixture(scope="module")
def shipped() -> Segmenter:
    return Segmenter("td2_mnv2", device="cpu", input_height=64)


@pytest.fixture(params=["tiny4", "shipped"])
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    found: Segmenter = request.getfixturevalue(request.param)
    return found


def frame(camera: int, index: int, size: tuple[int, int] = SIZE) -> Frame:
    noise = np.random.default_rng((camera, index // 3)).integers(0, 256, (4, 6, 3), np.uint8)
    image = cv2.resize(np.roll(noise, index, axis=1), size[::-1], interpolation=cv2.INTER_CUBIC)
    return Frame(image, stamp_ns=1_000_000_000 + index * 50_000_000)


def alone(segmenter: Segmenter, frames: Sequence[Frame]) -> list[Segmentation]:
    stream = segmenter.stream()
    return [stream.step(frame) for frame in frames]


def same(a: Segmentation, b: Segmentation) -> bool:
    return float(np.mean(a.mask == b.mask)) >= AGREEMENT and (a.plan, a.warm, a.resets) == (b.plan, b.warm, b.resets)


class BatchSizes:
    """Notes the batches that reach the network."""

    def __init__(self, segmenter: Segmenter, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[int] = []
        compute = segmenter.engine.compute

        def note(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
            self.seen.append(image.shape[0])
            assert all(x.shape[0] == image.shape[0] for x in cached)
            return compute(plan, image, *cached)

        patch.setattr(segmenter.engine, "compute", note)


def test_cameras_in_step_are_one_batch_and_get_what_each_alone_gets(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras, count = 3, 7
    expected = [alone(segmenter, [frame(camera, index) for index in range(count)]) for camera in range(cameras)]
    assert not same(expected[0][-1], expected[1][-1]), "cameras that see the same could be mixed up"
    batches = BatchSizes(segmenter, monkeypatch)
    streams = [segmenter.stream() for _ in range(cameras)]
    for index in range(count):
        results = segmenter.step_together([(stream, frame(camera, index)) for camera, stream in enumerate(streams)])
        for camera, result in enumerate(results):
            assert isinstance(result, Segmentation) and same(result, expected[camera][index])
    scenes = 3  # their first frames are seen in a mirror too
    assert batches.seen == [cameras] * (count + scenes)


def test_scores_of_a_batch_are_those_of_each_picture(segmenter: Segmenter) -> None:
    """Tighter than masks can be: nothing of one camera leaks into another's scores."""
    network, count = segmenter.network, segmenter.network.info.subnetworks
    pictures = torch.randn(2 * count, 3, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        together = network.initial_state()
        single = [network.initial_state() for _ in range(3)]
        for index, batch in enumerate(pictures):
            scores, together = network.advance(batch, together, index % count)
            for camera in range(3):
                own, single[camera] = network.advance(batch[camera : camera + 1], single[camera], index % count)
                torch.testing.assert_close(scores[camera : camera + 1], own, atol=1e-4, rtol=1e-4)


def test_any_mixture_of_phases_sizes_resets_and_absences(tiny4: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras come and go, reset at their own times and have sizes of their own, for forty steps; none is aligned."""
    monkeypatch.setattr("tdnet_ros.streaming.segmenter.in_step", list)
    rng = np.random.default_rng(3)
    sizes = [SIZE, SIZE, SIZE, (64, 80)]
    together, single = ([tiny4.stream() for _ in sizes] for _ in range(2))
    sharing = 0
    for index in range(40):
        present = [camera for camera in range(len(sizes)) if rng.random() < 0.9]
        for camera in present:
            if rng.random() < 0.05:
                together[camera].reset("a test")
                single[camera].reset("a test")
        frames = [frame(camera, index, sizes[camera]) for camera in present]
        results = tiny4.step_together([(together[camera], x) for camera, x in zip(present, frames, strict=True)])
        for camera, picture, result in zip(present, frames, results, strict=True):
            expected = single[camera].step(picture)
            assert isinstance(result, Segmentation) and same(result, expected)
            assert result.reset_reason == expected.reset_reason
            assert result.mask.shape == sizes[camera]
        sharing += len(present) - len({id(result.times) for result in results if isinstance(result, Segmentation)})
    assert sharing > 10, "too few frames shared a batch for this to say much"


def test_a_stale_frame_costs_the_others_nothing(tiny4: Segmenter) -> None:
    expected = [alone(tiny4, [frame(camera, index) for index in range(3)]) for camera in range(2)]
    streams = [tiny4.stream() for _ in range(2)]
    for index in range(2):
        tiny4.step_together([(stream, frame(camera, index)) for camera, stream in enumerate(streams)])
    late, good = tiny4.step_together([(streams[0], frame(0, 1)), (streams[1], frame(1, 2))])
    assert isinstance(late, StaleFrame)
    assert isinstance(good, Segmentation) and same(good, expected[1][2])
    assert same(streams[0].step(frame(0, 2)), expected[0][2])


def marked(camera: int, index: int) -> Frame:
    """With a first pixel by which the failing network knows it."""
    image = frame(camera, index).image.copy()
    image[:8, :8] = 255
    return replace(frame(camera, index), image=image)


class FailsOn:
    """The network, out of memory for batches with a marked picture in them, or with more than ``most``."""

    def __init__(self, segmenter: Segmenter, patch: pytest.MonkeyPatch, most: int = 8) -> None:
        self._compute, self._most = segmenter.engine.compute, most
        self._white = segmenter.stream().preprocess(marked(0, 0), SIZE)[0, :, :4, :4].clone()
        patch.setattr(segmenter.engine, "compute", self)

    def __call__(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        if len(image) > self._most or any(torch.equal(one[:, :4, :4], self._white) for one in image):
            raise MemoryError("no memory")
        return self._compute(plan, image, *cached)


def test_a_frame_on_which_the_network_fails_costs_its_own_camera_alone(
    tiny4: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [alone(tiny4, [frame(camera, index) for index in range(6)]) for camera in range(3)]
    streams = [tiny4.stream() for _ in range(3)]
    for index in range(5):
        tiny4.step_together([(stream, frame(camera, index)) for camera, stream in enumerate(streams)])
    before, failed = streams[1].state, tiny4.failed_batches
    with monkeypatch.context() as patch:
        FailsOn(tiny4, patch)
        pictures = [frame(0, 5), marked(1, 5), frame(2, 5)]
        results = tiny4.step_together(list(zip(streams, pictures, strict=True)))
    assert isinstance(results[1], MemoryError) and streams[1].state is before
    for camera in (0, 2):
        result = results[camera]
        assert isinstance(result, Segmentation) and same(result, expected[camera][5])
    assert [stream.resets for stream in streams] == [expected[camera][5].resets for camera in range(3)]
    assert tiny4.failed_batches == failed + 1


def test_a_batch_that_is_too_much_for_the_device_is_taken_one_by_one(
    tiny4: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tried again now and then: nothing tells when the memory is there again."""
    monkeypatch.setattr(tiny4, "_retreat", Retreat())
    expected = [alone(tiny4, [frame(camera, index) for index in range(6)]) for camera in range(3)]
    streams, failed, steps = [tiny4.stream() for _ in range(3)], tiny4.failed_batches, []
    with monkeypatch.context() as patch:
        FailsOn(tiny4, patch, most=1)
        for index in range(20):
            results = tiny4.step_together([(stream, frame(camera, index)) for camera, stream in enumerate(streams)])
            for camera, result in enumerate(results):
                assert isinstance(result, Segmentation)
                assert index > 5 or same(result, expected[camera][index])
            if tiny4.failed_batches > failed:
                failed = tiny4.failed_batches
                steps.append(index)
    assert steps == [0, 17]
    sizes = BatchSizes(tiny4, monkeypatch)
    for index in range(20, 52):
        tiny4.step_together([(stream, frame(camera, index)) for camera, stream in enumerate(streams)])
    assert set(sizes.seen[:90]) == {1} and sizes.seen[-1] == 3


def test_an_error_keeps_no_tensors(tiny4: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is out of memory would stay so, as long as somebody looks at why."""
    held: list[weakref.ref[Tensor]] = []

    def fail(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        held.append(weakref.ref(image))
        raise MemoryError("no memory")

    monkeypatch.setattr(tiny4.engine, "compute", fail)
    streams = [tiny4.stream() for _ in range(2)]
    results = tiny4.step_together([(stream, frame(camera, 0)) for camera, stream in enumerate(streams)])
    assert all(isinstance(result, MemoryError) for result in results)
    assert len(held) == 3 and not any(image() is not None for image in held)


def test_a_picture_that_cannot_be_begun_costs_its_own_camera_alone(
    tiny4: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [tiny4.stream() for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(streams[0], "begin", lambda frame: [][0])
        results = tiny4.step_together([(stream, frame(camera, 0)) for camera, stream in enumerate(streams)])
    assert isinstance(results[0], IndexError) and isinstance(results[1], Segmentation)


def test_confidence_comes_for_every_camera(tiny4: Segmenter) -> None:
    streams = [tiny4.stream() for _ in range(2)]
    results = tiny4.step_together([(stream, frame(camera, 0)) for camera, stream in enumerate(streams)], True)
    for camera, result in enumerate(results):
        assert isinstance(result, Segmentation) and result.confidence is not None
        expected = tiny4.stream().step(frame(camera, 0), confidence=True).confidence
        assert expected is not None
        assert np.abs(result.confidence.astype(int) - expected.astype(int)).max() <= 1


def test_no_camera_at_all_is_no_work(tiny4: Segmenter) -> None:
    assert tiny4.step_together([]) == []


def test_streams_that_cannot_go_together_are_refused(tiny4: Segmenter, shipped: Segmenter) -> None:
    stream: SegmentationStream = tiny4.stream()
    with pytest.raises(StateError, match="frames are of 1 streams, expected 2"):
        tiny4.step_together([(stream, frame(0, 0)), (stream, frame(0, 1))])
    with pytest.raises(StateError, match="stream belongs to another segmenter"):
        shipped.step_together([(stream, frame(0, 0))])
    assert tiny4.step_together([(stream, frame(0, 0))])[0].plan.subnetwork == 0  # type: ignore[union-attr]


def test_warm_up_prepares_the_batches_too() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny4", TinyVariant(subnetworks=4))
        segmenter = Segmenter("tiny4", tiny_weights("tiny4"), "cpu")
    segmenter.warm_up(*SIZE, cameras=3)
    assert len(segmenter.engine.prepared) == 2 * 7
