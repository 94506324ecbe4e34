"""On a GPU: the official logits, and the masks that the CPU gives. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from seeded_weights import read_golden, sample_points, seeded_picture, seeded_weights
from tiny_network import TinyUnitedVariant, tiny_weights

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.networks import load_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.streaming import Segmenter, StreamSettings
from tdnet_ros.video.frame import Frame

GOLDEN = read_golden(Path(__file__).parent / "golden" / "td4_psp18.npz")
TOLERANCE = 5e-4
# Half precision moves borders by a pixel here and there; a wrong channel order or window moves whole regions.
#: The pictures here have little in common: each would be a cut.
NO_CUTS = StreamSettings(cut_threshold=1.0)
AGREEMENT = {"fp32": 0.995, "fp16": 0.98}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """The device, in full single precision: TF32 has ten bits of mantissa, too few for the tolerance."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with torch.inference_mode():
        yield torch.device("cuda")


@cache
def official_weights() -> dict[str, torch.Tensor]:
    """A state dict in the official key format."""
    return seeded_weights(GOLDEN.shapes, GOLDEN.statistics, GOLDEN.metadata["seed"])


@pytest.mark.parametrize(("first", "height", "width"), sorted(GOLDEN.logits))
def test_td4_psp18_equals_the_official_logits(cuda: torch.device, first: int, height: int, width: int) -> None:
    seed, points = GOLDEN.metadata["seed"], GOLDEN.metadata["points"]
    network = load_network("td4_psp18", weights=official_weights(), device=cuda)
    state = network.initial_state()
    for frame, expected in enumerate(GOLDEN.logits[first, height, width]):
        picture = seeded_picture(frame, height, width, seed).to(cuda)
        logits, state = network.step(picture, state, subnetwork=(first + frame) % 4)
        ours = logits.cpu().flatten()[sample_points(frame, points, tuple(logits.shape), seed)]
        difference = (ours - torch.from_numpy(expected)).abs().max()
        assert difference <= TOLERANCE, f"frame {frame}: {difference:.1e}"


@pytest.mark.parametrize("precision", sorted(AGREEMENT))
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_masks_are_those_of_the_cpu(cuda: torch.device, precision: str, encoding: str) -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (6, 8, 1 if encoding == "mono8" else 3), np.uint8)
    streams = [
        Segmenter("td2_mnv2", device="cpu", input_height=240, settings=NO_CUTS).stream(),
        Segmenter("td2_mnv2", device=str(cuda), precision=precision, input_height=240, settings=NO_CUTS).stream(),
    ]
    for index in range(6):
        image = np.roll(coarse, index, axis=1).repeat(40, axis=0).repeat(40, axis=1)
        frame = Frame(image[..., 0] if encoding == "mono8" else image, stamp_ns=1 + index, encoding=encoding)
        cpu, gpu = (stream.step(frame) for stream in streams)
        assert cpu.warm == gpu.warm
        assert float(np.mean(cpu.mask == gpu.mask)) >= AGREEMENT[precision], f"frame {index}"


@pytest.mark.parametrize("precision", sorted(AGREEMENT))
def test_frames_between_keyframes_are_those_of_the_cpu_and_captured_by_the_warm_up(
    cuda: torch.device, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, "united2", TinyUnitedVariant(subnetworks=2))
    weights, settings = tiny_weights("united2"), StreamSettings(keyframe_interval=4, motion="flow")
    segmenters = [
        Segmenter("united2", weights, "cpu", settings=settings),
        Segmenter("united2", weights, str(cuda), precision, settings=settings),
    ]
    segmenters[1].warm_up(128, 192)
    captured = set(segmenters[1].engine.prepared)
    assert any(plan.fused for plan in captured)
    streams, clip = [segmenter.stream() for segmenter in segmenters], DriveClip(128, 192, seed=1)
    for index in range(9):
        frame = Frame(clip.picture(index), stamp_ns=1 + index)
        cpu, gpu = (stream.step(frame) for stream in streams)
        assert cpu.plan == gpu.plan and cpu.plan.keyframe == (index % 4 == 0)
        assert float(np.mean(cpu.mask == gpu.mask)) >= AGREEMENT[precision], f"frame {index}"
    assert set(segmenters[1].engine.prepared) == captured
