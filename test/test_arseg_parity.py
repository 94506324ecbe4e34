"""AR-Seg against the official implementation: see test/golden and its metadata for how the goldens were made."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from arseg_goldens import DISTANCES, MODELS, golden_of, pair_of, seeded_motion
from seeded_weights import sample_points, seeded_picture
from torch import Tensor

from tdnet_ros.cli import main
from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks import load_network
from tdnet_ros.networks.arseg import ARSeg
from tdnet_ros.networks.warping import Warp

#: Largest difference of a logit (their standard deviation is between 1 and 5) from the official code in double
#: precision. In single precision the official code itself is up to 1.5e-4 away from that.
TOLERANCE = 1e-3
Stream = tuple[int, int, int]

pytestmark = pytest.mark.filterwarnings("error")


@cache
def network_of(model: str) -> ARSeg:
    network = load_network(None, weights=pair_of(model))
    assert isinstance(network, ARSeg)
    return network


def answers(model: str, stream: Stream, warp: Warp | None = None) -> list[Tensor]:
    """Logits at the golden's points, frame by frame: keyframe, distances without motion, distances with motion."""
    network, golden = network_of(model), golden_of(model)
    percent, height, width = stream
    seed, points = golden.metadata["seed"], golden.metadata["points"]
    usual = network.warp
    network.warp = warp or usual
    keyframe, state = network.step(seeded_picture(0, height, width, seed), network.initial_state())
    found = [keyframe]
    for moving in (0, 1):
        for distance in DISTANCES:
            picture = seeded_picture(distance, height, width, seed)
            motion = seeded_motion(distance, height, width, seed) * moving
            found.append(network.step(picture, state, keyframe=False, motion=motion, scale=percent / 100).scores)
    network.warp = usual
    assert all(logits.shape == (1, len(network.info.labels), height, width) for logits in found)
    return [x.flatten()[sample_points(frame, points, tuple(x.shape), seed)] for frame, x in enumerate(found)]


@torch.inference_mode()
@pytest.mark.parametrize("model", MODELS)
def test_keyframe_and_distances_equal_the_official_logits(model: str) -> None:
    assert network_of(model).info.name == model, "told by keys and shapes alone"
    golden = golden_of(model)
    assert {scale for scale, _, _ in golden.logits} == {50, 30}
    assert any(height % 8 for _, height, _ in golden.logits)
    for stream, expected in golden.logits.items():
        assert len(expected) == 1 + 2 * len(DISTANCES)
        differences = [
            float((ours - torch.from_numpy(theirs)).abs().max())
            for ours, theirs in zip(answers(model, stream), expected, strict=True)
        ]
        assert max(differences) <= TOLERANCE, f"{stream}: {differences}"


@torch.inference_mode()
def test_motion_and_the_quirk_of_the_sampling_change_the_logits_far_more_than_the_tolerance() -> None:
    """Else the parity could hold without either."""
    model, stream = "arseg_bise18_camvid", (50, 96, 128)
    expected = torch.from_numpy(golden_of(model).logits[stream])
    without, moved = expected[1 : 1 + len(DISTANCES)], expected[1 + len(DISTANCES) :]
    assert float((without - moved).std()) > 100 * TOLERANCE
    straight = torch.stack(answers(model, stream, warp=Warp()))
    assert float((straight[0] - expected[0]).abs().max()) <= TOLERANCE
    assert float((straight[1:] - expected[1:]).std()) > 100 * TOLERANCE


def test_a_pair_of_files_says_its_scale_and_loads_as_the_dicts_do(tmp_path: Path) -> None:
    model = "arseg_psp18_cityscapes"
    high, low = pair_of(model)
    # The real high-resolution file has no fusion and no second name for its classifier.
    plain = {key: value for key, value in high.items() if "fuse_attention" not in key and "final_conv" not in key}
    files = tmp_path / "PSPNet_resnet18_1.0_199_.pth", tmp_path / "PSPNet_resnet18_0.3_187_.pth"
    for path, weights in zip(files, (plain, low), strict=True):
        torch.save(weights, path)
    network = load_network("auto", weights=files)
    assert (network.info.name, network.info.low_resolution) == (model, 0.3)
    assert network_of(model).info.low_resolution == 0.5
    expected = network_of(model).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    output = tmp_path / "one.safetensors"
    assert main(["convert", *map(str, files), "-o", str(output), "--half"]) == 0
    one = load_network(None, output)
    assert replace(one.info, terms="") == network.info and "CamVid or on Cityscapes" in one.info.terms
    rounded = one.state_dict()
    assert all(torch.allclose(rounded[key], value, rtol=1e-3, atol=1e-3) for key, value in expected.items())


def test_files_that_are_no_pair_are_refused() -> None:
    high, low = pair_of("arseg_bise18_camvid")
    with pytest.raises(CheckpointError, match="are one file of AR-Seg, expected the pair"):
        load_network("arseg_bise18_camvid", high)
    with pytest.raises(CheckpointError, match="hold no fusion"):
        load_network(None, (low, high))
    with pytest.raises(CheckpointError, match="are no official file of AR-Seg, expected the alternating-resolution"):
        load_network(None, (high, {"weight": torch.zeros(1)}))
    other = low | {key: value + 1 for key, value in low.items() if "final_conv.bias" in key}
    with pytest.raises(CheckpointError, match=r"differ in classifier\.bias, expected a pair with one classifier"):
        load_network(None, (high, other))
    with pytest.raises(CheckpointError, match="differ"):
        load_network(None, (pair_of("arseg_bise18_cityscapes")[0], low))
    with pytest.raises(CheckpointError, match=r"missing, first: high\.backbone"):
        load_network("arseg_psp18_cityscapes", (high, low))
