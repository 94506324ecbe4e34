"""td4_psp18 against the official implementation: see test/golden and its metadata for how the goldens were made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from seeded_weights import Golden, read_golden, sample_points, seeded_picture, seeded_weights
from torch import Tensor

from tdnet_ros.networks import TDNet, load_network

GOLDEN = read_golden(Path(__file__).parent / "golden" / "td4_psp18.npz")
TOLERANCE = 5e-4
STREAMS = sorted(GOLDEN.logits)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return GOLDEN


@pytest.fixture(scope="module")
def weights(golden: Golden) -> dict[str, Tensor]:
    """A state dict in the official key format."""
    return seeded_weights(golden.shapes, golden.statistics, golden.metadata["seed"])


@pytest.fixture(scope="module")
def network(weights: dict[str, Tensor]) -> Iterator[TDNet]:
    with torch.inference_mode():
        yield load_network("td4_psp18", weights=weights)


def test_golden_covers_every_first_subnetwork_and_three_windows() -> None:
    assert {first for first, _, _ in STREAMS} == {0, 1, 2, 3}
    assert any(height % 8 != 1 and width % 8 != 1 for _, height, width in STREAMS)
    assert all(len(logits) >= 3 + 3 * 4 for logits in GOLDEN.logits.values())


@pytest.mark.parametrize(("first", "height", "width"), STREAMS)
def test_every_frame_of_a_stream_equals_the_official_logits(
    golden: Golden, network: TDNet, first: int, height: int, width: int
) -> None:
    seed, points = golden.metadata["seed"], golden.metadata["points"]
    state = network.initial_state()
    for frame, expected in enumerate(golden.logits[first, height, width]):
        picture = seeded_picture(frame, height, width, seed)
        logits, state = network.step(picture, state, subnetwork=(first + frame) % 4)
        ours = logits.flatten()[sample_points(frame, points, tuple(logits.shape), seed)]
        difference = (ours - torch.from_numpy(expected)).abs().max()
        assert difference <= TOLERANCE, f"frame {frame}: {difference:.1e}"


def test_channels_last_pictures_pass_the_same_bound(golden: Golden, network: TDNet) -> None:
    """The layout that the stream feeds, for which a CPU has other kernels."""
    seed, points = golden.metadata["seed"], golden.metadata["points"]
    state = network.initial_state()
    for frame, expected in enumerate(golden.logits[0, 97, 129][:8]):
        picture = seeded_picture(frame, 97, 129, seed).contiguous(memory_format=torch.channels_last)
        logits, state = network.step(picture, state, subnetwork=frame % 4)
        ours = logits.flatten()[sample_points(frame, points, tuple(logits.shape), seed)]
        assert (ours - torch.from_numpy(expected)).abs().max() <= TOLERANCE, f"frame {frame}"


def test_the_window_carries_more_than_half_of_the_logits(golden: Golden, network: TDNet) -> None:
    """Else the test above could pass with a window that is ignored or put together wrongly."""
    state = network.initial_state()
    changes = []
    for frame in range(golden.metadata["frames"]):
        picture = seeded_picture(frame, 97, 129, golden.metadata["seed"])
        alone, _ = network.step(picture, network.initial_state(), frame % 4)
        logits, state = network.step(picture, state, frame % 4)
        changes.append(float((logits - alone).std() / logits.std()))
    assert changes[:3] == [0, 0, 0]
    assert sum(changes[3:]) / len(changes[3:]) > 0.5
    assert min(changes[3:]) > 0.25


@pytest.mark.parametrize("form", ["data parallel", "training", "file"])
def test_every_form_of_an_official_checkpoint_gives_the_same_network(
    network: TDNet, weights: dict[str, Tensor], form: str, tmp_path: Path
) -> None:
    source: dict[str, object] | Path
    if form == "data parallel":
        source = {f"module.{key}": value for key, value in weights.items()}
    elif form == "training":
        auxiliary = {f"auxlayer{path}.conv5.4.bias": torch.zeros(19) for path in (1, 2, 3, 4)}
        source = {"epoch": 7, "best_iou": 0.5, "model_state": weights | auxiliary}
    else:
        source = tmp_path / "td4-psp18.pkl"
        torch.save(weights, source)
    loaded = load_network("td4_psp18", weights=source).state_dict()
    for key, value in network.state_dict().items():
        assert torch.equal(loaded[key], value), key
