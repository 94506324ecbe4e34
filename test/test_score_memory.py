"""The memory of class probabilities: what it carries along, what it leaves alone, and what empties it."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from benchmarks import steadiness
from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.streaming import Segmenter
from tdnet_ros.streaming.score_memory import ScoreMemory
from tdnet_ros.training.street import Street
from tdnet_ros.video.dense_flow import DenseFlow
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.motion import CUT_SHARE

HEIGHT, WIDTH, CLASSES = 96, 128, 3
PERIOD_NS = 66_000_000


def texture(seed: int = 1, shift: int = 0) -> np.ndarray:
    """A picture of soft blobs that has moved to the right by ``shift`` px."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH + 64, 3), np.uint8)
    soft = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return np.ascontiguousarray(soft[:, 32 - shift : 32 - shift + WIDTH])


def step(memory: ScoreMemory, picture: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Probabilities (classes, rows, columns) after the frame."""
    blended, memory.last = memory.blend(scores, memory.look(Frame(picture)))
    return blended.softmax(1)[0]


def scores_of(ids: np.ndarray, certainty: float = 4.0) -> torch.Tensor:
    return certainty * torch.nn.functional.one_hot(torch.from_numpy(ids), CLASSES).permute(2, 0, 1)[None].float()


def test_a_still_picture_blends_as_the_equation_says() -> None:
    memory, picture = ScoreMemory(0.75), texture()
    first = scores_of(np.zeros((24, 32), np.int64))
    second = scores_of(np.ones((24, 32), np.int64))
    assert torch.allclose(step(memory, picture, first), first.softmax(1)[0])
    expected = 0.25 * second.softmax(1) + 0.75 * first.softmax(1)
    assert torch.allclose(step(memory, picture, second), expected[0], atol=1e-3)
    expected = 0.25 * second.softmax(1) + 0.75 * expected
    assert torch.allclose(step(memory, picture, second), expected[0], atol=1e-3)


def test_a_frame_without_a_past_is_seen_in_a_mirror_too() -> None:
    picture = next(iter(Street(4, HEIGHT, WIDTH))).image
    segmenter = Segmenter(input_height=HEIGHT)

    def masks(*pictures: np.ndarray) -> list[np.ndarray]:
        stream = segmenter.stream()
        return [
            stream.step(Frame(each, stamp_ns=i * PERIOD_NS), confidence=True).mask for i, each in enumerate(pictures)
        ]

    mirrored = np.ascontiguousarray(picture[:, ::-1])
    (first,), (second,) = masks(picture), masks(mirrored)
    # Both are means of the same two views, so that only their rounding differs.
    assert (first == second[:, ::-1]).mean() > 0.999
    segmenter = Segmenter(input_height=HEIGHT, score_memory=0)
    (first,), (second,) = masks(picture), masks(mirrored)
    assert (first == second[:, ::-1]).mean() < 0.999, "a network by itself is not symmetric"


def test_the_past_moves_with_the_picture() -> None:
    memory, shift = ScoreMemory(0.9), 8
    edges = np.arange(32)[None].repeat(24, 0) // 8 % CLASSES
    unsure = torch.zeros(1, CLASSES, 24, 32)
    step(memory, texture(), scores_of(edges))
    ids = step(memory, texture(shift=shift), unsure).argmax(0).numpy()
    moved = np.roll(edges, shift // 4, axis=1)  # a score is 4 px wide
    inside = (slice(2, -2), slice(4, -2))
    assert np.mean(ids[inside] == moved[inside]) > 0.95
    assert np.mean(ids[inside] == edges[inside]) < 0.8


def test_another_picture_is_left_to_the_network() -> None:
    memory = ScoreMemory(0.9)
    step(memory, texture(), scores_of(np.zeros((24, 32), np.int64)))
    ids = step(memory, texture(seed=2), scores_of(np.ones((24, 32), np.int64))).argmax(0)
    assert (ids == 1).float().mean() > 0.9


def test_brighter_is_not_another_picture() -> None:
    picture = texture() // 2
    flow = DenseFlow()
    seen, brighter = (flow.shrink(Frame(image)) for image in (picture, picture + 60))
    assert flow.between(seen, brighter).trust.mean() > 0.9


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_flow_sees_the_same_in_every_encoding(encoding: str) -> None:
    def frame(shift: int) -> Frame:
        image = texture(shift=shift)
        if encoding == "bgr8":
            image = image[..., ::-1]
        return Frame(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if encoding == "mono8" else image, encoding=encoding)

    flow = DenseFlow()
    motion = flow.between(flow.shrink(frame(0)), flow.shrink(frame(4))).motion[16:-16, 16:-16]
    assert np.hypot(motion[..., 0] + 4, motion[..., 1]).mean() < 0.5


def test_cuts_are_told_from_drives(data_pack: Path) -> None:
    scenes = [[each.image for each in itertools.islice(Street(seed, 180, 240), 4)] for seed in (11, 12)]
    for name in ("solidWhiteRight", "udacity_vehicle_test_video"):
        with av.open(str(data_pack / "video" / f"{name}.mp4")) as video:
            frames = itertools.islice(video.decode(video=0), 0, 36, 3)
            scenes.append([cv2.resize(each.to_ndarray(format="rgb24"), (240, 180)) for each in frames])
    flow = DenseFlow()
    small = [[flow.shrink(Frame(image)) for image in scene] for scene in scenes]
    for scene in small:
        for before, after in itertools.pairwise(scene):
            assert flow.between(before, after).unusable_share < CUT_SHARE - 0.05
    for one, other in itertools.permutations(small, 2):
        assert flow.between(one[0], other[0]).unusable_share > CUT_SHARE + 0.05


def test_steadiness_tells_accuracy_and_flicker_by_weight(capsys: pytest.CaptureFixture[str]) -> None:
    brief = ["--seeds", "1", "--frames", "3", "--weights", "0", "0.7", "--heights", "90", "--size", "128x96"]
    assert steadiness.main(brief) == 0
    told = capsys.readouterr().out.splitlines()[1:]
    assert len(told) == 2 and "no memory" in told[0] and "flow at 90 px" in told[1]
    flickers = [float(line.split("flicker ")[1].removesuffix(" %")) for line in told]
    assert 0 < flickers[1] < flickers[0]


def test_a_memory_of_nothing_changes_nothing() -> None:
    memory = ScoreMemory(0.0)
    scores = scores_of(np.zeros((24, 32), np.int64))
    blended, remembered = memory.blend(scores, memory.look(Frame(texture())))
    assert blended is scores and remembered is None


def test_no_probability_survives_a_reset() -> None:
    remembering, forgetful = Segmenter(device="cpu", input_height=96), Segmenter(device="cpu", input_height=96)
    stream, fresh = remembering.stream(), forgetful.stream()
    pictures = [texture(seed) for seed in range(3)]
    for index in range(2):
        stream.step(Frame(pictures[index], stamp_ns=(index + 1) * PERIOD_NS))
    stream.reset()
    after = stream.step(Frame(pictures[2], stamp_ns=10 * PERIOD_NS))
    assert np.array_equal(after.mask, fresh.step(Frame(pictures[2], stamp_ns=PERIOD_NS)).mask)


def test_a_frame_that_fails_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = Segmenter(device="cpu", input_height=96)
    stream = segmenter.stream()
    stream.step(Frame(texture(), stamp_ns=PERIOD_NS))
    before = stream.memory.last
    monkeypatch.setattr(segmenter.engine, "compute", lambda *_: (_ for _ in ()).throw(ImageError("no")))
    with pytest.raises(ImageError):
        stream.step(Frame(texture(shift=2), stamp_ns=2 * PERIOD_NS))
    assert stream.memory.last is before


def test_weights_outside_the_range_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"score_memory is 1.0, expected 0 to 0.95"):
        ScoreMemory(1.0)
