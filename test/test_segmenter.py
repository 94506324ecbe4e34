"""The engine: streams over one set of weights, what empties a window, and pixels on their way to the network."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tdnet_ros.errors import CheckpointError, ConfigurationError, ImageError, StaleFrame, StateError
from tdnet_ros.streaming import ContinuityLimits, SegmentationStream, Segmenter, StreamSettings, runtime
from tdnet_ros.streaming.models import choose_weights
from tdnet_ros.streaming.runtime import Preprocessor
from tdnet_ros.video.frame import Frame

PERIOD_NS = 66_000_000
#: The pictures here have nothing in common: each would be a cut.
NO_CUTS = StreamSettings(cut_threshold=1.0)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("td2_mnv2", device="cpu", input_height=96, settings=NO_CUTS)


def picture(index: int, height: int = 90, width: int = 120) -> np.ndarray:
    noise = np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def frame(index: int, **fields: object) -> Frame:
    return Frame(picture(index), stamp_ns=1_000_000_000 + index * PERIOD_NS, **fields)  # type: ignore[arg-type]


def run(stream: SegmentationStream, indices: range) -> list[np.ndarray]:
    return [stream.step(frame(index)).mask for index in indices]


def test_rotation_warms_up_and_masks_have_the_frames_size(segmenter: Segmenter) -> None:
    stream = segmenter.stream()
    results = [stream.step(frame(index)) for index in range(4)]
    assert [result.plan.subnetwork for result in results] == [0, 1, 0, 1]
    assert [result.warm for result in results] == [False, True, True, True]
    for result in results:
        assert result.mask.shape == (90, 120) and result.mask.dtype == np.uint8
        assert result.mask.max() < len(segmenter.labels) and result.confidence is None


def test_two_interleaved_streams_give_what_two_separate_ones_give(segmenter: Segmenter) -> None:
    separate = run(segmenter.stream(), range(4)), run(segmenter.stream(), range(10, 14))
    first, second = segmenter.stream(), segmenter.stream()
    for step in range(4):
        assert np.array_equal(first.step(frame(step)).mask, separate[0][step])
        assert np.array_equal(second.step(frame(step + 10)).mask, separate[1][step])


def test_a_reset_gives_what_a_new_stream_gives(segmenter: Segmenter) -> None:
    fresh = run(segmenter.stream(), range(5, 8))
    stream = segmenter.stream()
    run(stream, range(2))
    stream.reset("a test")
    assert [np.array_equal(a, b) for a, b in zip(run(stream, range(5, 8)), fresh, strict=True)] == [True] * 3
    assert stream.resets == 1


def test_window_matters(segmenter: Segmenter) -> None:
    """Otherwise the tests of resets could not fail."""
    stream = segmenter.stream()
    stream.step(frame(0))
    other = segmenter.stream()
    other.step(Frame(255 - picture(0), stamp_ns=frame(0).stamp_ns))
    assert not np.array_equal(stream.step(frame(1)).mask, other.step(frame(1)).mask)


@pytest.mark.parametrize(
    "following",
    [
        Frame(picture(9, 60, 80), stamp_ns=1_000_000_000 + 3 * PERIOD_NS),
        Frame(picture(9), stamp_ns=1_000_000_000 + 3 * PERIOD_NS, source="rear"),
        Frame(picture(9), stamp_ns=1_000_000_000 + 3 * PERIOD_NS, encoding="bgr8"),
        Frame(picture(9), stamp_ns=9_000_000_000),
        Frame(picture(9), stamp_ns=1),
    ],
    ids=["size", "frame_id", "encoding", "gap", "bag loop"],
)
def test_discontinuity_empties_the_window(segmenter: Segmenter, following: Frame) -> None:
    expected = segmenter.stream().step(following).mask
    stream = segmenter.stream(ContinuityLimits(max_gap_s=1.0, max_back_s=0.5))
    run(stream, range(3))
    result = stream.step(following)
    assert np.array_equal(result.mask, expected)
    assert not result.warm and result.resets == 1 and result.reset_reason


def test_stale_frame_leaves_the_window_as_it_was(segmenter: Segmenter) -> None:
    expected = run(segmenter.stream(), range(4))
    stream = segmenter.stream()
    run(stream, range(3))
    with pytest.raises(StaleFrame):
        stream.step(Frame(255 - picture(2), stamp_ns=frame(1).stamp_ns))
    assert np.array_equal(stream.step(frame(3)).mask, expected[3])


def test_failing_network_leaves_the_window_as_it_was(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(segmenter.stream(), range(4))
    stream = segmenter.stream()
    run(stream, range(3))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(segmenter.engine, "compute", fail)
        with pytest.raises(MemoryError):
            stream.step(Frame(picture(7), stamp_ns=frame(2).stamp_ns + 1))  # type: ignore[operator]
    assert np.array_equal(stream.step(frame(3)).mask, expected[3])


def test_resetting_an_empty_window_does_not_count(segmenter: Segmenter) -> None:
    stream = segmenter.stream()
    stream.reset()
    assert stream.resets == 0


def test_confidence_is_there_when_asked_for(segmenter: Segmenter) -> None:
    result = segmenter.stream().step(frame(0), confidence=True)
    assert result.confidence is not None
    assert result.confidence.shape == result.mask.shape and result.confidence.min() > 255 // 11 - 2


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
@pytest.mark.parametrize("size", [(90, 120), (45, 60)])
@pytest.mark.parametrize("padded", [False, True])
def test_pixels_reach_the_network_normalised(
    segmenter: Segmenter, encoding: str, size: tuple[int, int], padded: bool
) -> None:
    rgb = picture(5)
    if encoding == "mono8":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    sent = {"rgb8": rgb, "bgr8": rgb[..., ::-1], "mono8": rgb[..., 0]}[encoding]
    memory = np.zeros((90, 130, *sent.shape[2:]), np.uint8) if padded else np.zeros_like(sent, order="C")
    memory[:, :120] = sent
    view = memory[:, :120]
    view.flags.writeable = False
    got = Preprocessor(segmenter.network.info, segmenter.runtime)(Frame(view, encoding=encoding), size)
    resized = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR)
    expected = (resized / 255.0 - 0.5) / 0.5
    assert got.shape == (1, 3, *size)
    np.testing.assert_allclose(got[0].permute(1, 2, 0).numpy(), expected, atol=1.1 / 127.5)


def test_networks_input_is_seen_as_channels_last(segmenter: Segmenter) -> None:
    """Torch goes by the strides, that of a batch of one included, and takes slower kernels when they do not fit."""
    got = Preprocessor(segmenter.network.info, segmenter.runtime)(Frame(picture(5)), (90, 120))
    assert got.stride() == torch.empty(got.shape, memory_format=torch.channels_last).stride()


@pytest.mark.parametrize(
    ("input_height", "frame_size", "expected"),
    [
        (0, (360, 480), (360, 480)),
        (0, (540, 960), (360, 640)),
        (0, (720, 960), (360, 480)),
        (96, (90, 120), (96, 128)),
    ],
)
def test_network_size_keeps_the_aspect(
    input_height: int, frame_size: tuple[int, int], expected: tuple[int, int]
) -> None:
    resized = Segmenter("td2_mnv2", device="cpu", input_height=input_height)
    assert resized.network_size(*frame_size) == expected


def test_a_strip_of_a_picture_is_refused_before_it_takes_all_memory() -> None:
    stream = Segmenter("td2_mnv2", device="cpu", input_height=96).stream()
    assert stream.step(Frame(np.zeros((16, 256, 3), np.uint8), 1)).mask.shape == (16, 256)
    with pytest.raises(ImageError, match="image is 20000x1, expected at most 16 times as wide as high"):
        stream.step(Frame(np.zeros((1, 20000, 3), np.uint8), 2))
    assert stream.step(Frame(np.zeros((16, 256, 3), np.uint8), 3)).mask.shape == (16, 256)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "unet"}, "model is 'unet', expected one of"),
        ({"device": "tpu"}, "device is 'tpu', expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:77"}, "device is 'cuda:77', this machine has"),
        ({"precision": "int4"}, "precision is 'int4', expected one of"),
        ({"precision": "fp16", "device": "cpu"}, "precision is 'fp16' on the CPU, expected 'fp32', 'bf16' or 'auto'"),
        ({"input_height": 8}, "input_height is 8, expected 0 or at least 32 px"),
    ],
)
def test_wrong_settings_say_what_was_expected(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        Segmenter(**settings)  # type: ignore[arg-type]


def test_bf16_wants_a_processor_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_processor_flags", lambda: {"avx512f"})
    with pytest.raises(ConfigurationError, match="precision is 'bf16' and this processor has none of"):
        Segmenter(device="cpu", precision="bf16")


def test_bf16_gives_nearly_the_masks_of_fp32(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_processor_flags", lambda: {"avx512_bf16"})  # torch has it everywhere, slowly
    half = Segmenter("td2_mnv2", device="cpu", precision="bf16", input_height=96, settings=NO_CUTS)
    assert half.runtime.describe().endswith("bf16, eager")
    for exact, rounded in zip(run(segmenter.stream(), range(4)), run(half.stream(), range(4)), strict=True):
        assert 0.9 < np.mean(exact == rounded) < 1


def test_image_of_whole_numbers_is_refused(segmenter: Segmenter) -> None:
    image = torch.zeros((1, 3, 96, 128), dtype=torch.uint8)
    with pytest.raises(StateError, match=r"image is torch.uint8, expected floating point numbers"):
        segmenter.network.advance(image, segmenter.network.initial_state())


def test_two_files_are_named_with_a_comma_between_them(tmp_path: Path) -> None:
    assert choose_weights("auto", "high.pth, low.pth") == ("high.pth", "low.pth")
    odd = tmp_path / "one,two.pth"
    odd.touch()
    assert choose_weights("auto", str(odd)) == str(odd)
    with pytest.raises(CheckpointError, match=r"high\.pth"):
        Segmenter(weights="high.pth,low.pth", device="cpu")


def test_model_without_shipped_weights_asks_for_a_file() -> None:
    with pytest.raises(CheckpointError, match="'td4_psp18' ships without weights"):
        Segmenter("td4_psp18", device="cpu")


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (np.zeros((4, 4, 3), np.uint8), "yuv422"),
        (np.zeros((4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 3), np.uint8), "mono8"),
        (np.zeros((4, 4, 4), np.uint8), "rgb8"),
        (np.zeros((4, 4, 3), np.float32), "rgb8"),
        (np.zeros((0, 4, 3), np.uint8), "rgb8"),
    ],
)
def test_frame_refuses_what_it_cannot_be(image: np.ndarray, encoding: str) -> None:
    with pytest.raises(ImageError):
        Frame(image, encoding=encoding)
