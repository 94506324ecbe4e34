"""The window and the step of TDNet, on light networks whose random weights have calibrated batch norm statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from seeded_weights import seeded_picture
from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks import TDNet, TDNetState, build_network, load_network
from tdnet_ros.networks.attention import WindowEntry
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.network import image_size
from tdnet_ros.networks.tdnet import Encoded

SEED = 7
SIZE = (90, 122)


@pytest.fixture(scope="module")
def four_paths() -> Iterator[TDNet]:
    """The light model with four sub-networks: the longest window at the least cost."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "td4_mnv2", replace(CATALOG["td2_mnv2"], subnetworks=4))
        with torch.inference_mode():
            yield load_network("td4_mnv2", weights=_calibrated("td4_mnv2").state_dict())


@pytest.fixture(scope="module")
def two_paths() -> Iterator[TDNet]:
    with torch.inference_mode():
        yield load_network("td2_mnv2", weights=_calibrated("td2_mnv2").state_dict())


def _calibrated(name: str) -> TDNet:
    """Random weights with batch norm statistics of their own: else the signal dies within the first dozen layers."""
    torch.manual_seed(SEED)
    network = build_network(name).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics become the average over the steps below
    paths = network.info.subnetworks
    state = network.initial_state()
    for frame in range(3 * paths):
        batch = torch.cat([_picture(frame), _picture(frame + 100)])
        _, state = network.advance(batch, state, frame % paths)
    return network.eval()


def _picture(frame: int, size: tuple[int, int] = SIZE) -> Tensor:
    return seeded_picture(frame, *size, SEED)


def _stream(network: TDNet, pictures: Sequence[Tensor]) -> tuple[list[Tensor], TDNetState]:
    """Scores of every frame in plain rotation, and the last state."""
    state = network.initial_state()
    scores = []
    for frame, picture in enumerate(pictures):
        result, state = network.advance(picture, state, frame % network.info.subnetworks)
        scores.append(result)
    return scores, state


def _recomposed(network: TDNet, current: int, encoded: Encoded, window: Sequence[tuple[int, WindowEntry]]) -> Tensor:
    """Equations of the paper as they stand: F after the attention, at full resolution, the affinity in memory."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.softmax(query @ key.transpose(1, 2) / key.shape[2] ** 0.5, dim=2) @ value

    query = encoded.query.flatten(2).transpose(1, 2)
    queries = [entry.query for _, entry in window[1:]] + [query]
    carried = torch.zeros_like(window[0][1].value)
    for (source, entry), asking in zip(window, queries, strict=True):
        transfer = network.subnetwork(current).propagation.transfer[str(source)]
        carried = transfer(attend(asking, entry.key, carried + entry.value))
    return encoded.value + carried.transpose(1, 2).reshape(encoded.value.shape)


def _entry(network: TDNet, encoded: Encoded) -> WindowEntry:
    stride = network.window_stride
    query, value = (x[:, :, ::stride, ::stride].flatten(2).transpose(1, 2) for x in (encoded.query, encoded.value))
    return WindowEntry(query, encoded.key.flatten(2).transpose(1, 2), value)


def test_plain_rotation_equals_a_queue_of_the_last_frames(four_paths: TDNet) -> None:
    queue: list[tuple[int, WindowEntry]] = []
    state = four_paths.initial_state()
    for frame in range(13):
        current = (2 + frame) % 4
        encoded = four_paths.encode(_picture(frame), current)
        feature = _recomposed(four_paths, current, encoded, queue) if len(queue) == 3 else encoded.value
        expected = four_paths.subnetwork(current).classify(feature, encoded.details)
        assert four_paths.is_warm(state, current) == (len(queue) == 3)
        scores, state = four_paths.advance(_picture(frame), state, current)
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
        queue = [*queue, (current, _entry(four_paths, encoded))][-3:]


def test_the_window_changes_the_scores(four_paths: TDNet) -> None:
    scores, _ = _stream(four_paths, [_picture(frame) for frame in range(5)])
    alone, _ = four_paths.advance(_picture(4), four_paths.initial_state(), 0)
    assert (scores[4] - alone).std() > 0.1 * scores[4].std()


def test_out_of_order_the_window_holds_the_newest_of_every_other_subnetwork_by_age(four_paths: TDNet) -> None:
    sequence = (0, 1, 2, 3, 3, 1, 0, 1)
    state = four_paths.initial_state()
    newest: dict[int, WindowEntry] = {}
    for frame, current in enumerate(sequence):
        newest.pop(current, None)
        newest[current] = _entry(four_paths, four_paths.encode(_picture(frame), current))
        _, state = four_paths.advance(_picture(frame), state, current)
    assert state.order == (2, 3, 0, 1)
    for current in range(4):
        expected = [(source, entry) for source, entry in newest.items() if source != current]
        window = state.window(current)
        assert [source for source, _ in window] == [source for source, _ in expected]
        for (_, entry), (_, reference) in zip(window, expected, strict=True):
            torch.testing.assert_close((entry.query, entry.key, entry.value), _tensors(reference))
        encoded = four_paths.encode(_picture(len(sequence)), current)
        feature = four_paths.recompose(encoded, state.window(current), current)
        torch.testing.assert_close(feature, _recomposed(four_paths, current, encoded, expected), atol=1e-4, rtol=1e-4)


def _tensors(entry: WindowEntry | None) -> tuple[Tensor, ...]:
    return () if entry is None else (entry.query, entry.key, entry.value)


def test_a_step_leaves_state_and_image_as_they_were(four_paths: TDNet) -> None:
    _, state = _stream(four_paths, [_picture(frame) for frame in range(4)])
    image = _picture(4)
    slots, order, size, pixels = deepcopy(state.slots), state.order, state.image_size, image.clone()
    first, after = four_paths.step(image, state, 0)
    assert torch.equal(image, pixels)
    assert (state.order, state.image_size) == (order, size) and after.order != order
    for before, now in zip(slots, state.slots, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(_tensors(before), _tensors(now), strict=True))
    second, _ = four_paths.step(image, state, 0)
    assert torch.equal(first, second)


def test_the_state_keeps_nothing_but_the_window(four_paths: TDNet) -> None:
    """An entry that is a view would keep the full-resolution features of every past frame in memory."""
    _, state = _stream(four_paths, [_picture(frame) for frame in range(4)])
    for slot in state.slots:
        for tensor in _tensors(slot):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_a_batch_of_cameras_equals_the_cameras_one_by_one(four_paths: TDNet) -> None:
    cameras = [[_picture(frame) for frame in range(7)], [_picture(frame + 50) for frame in range(7)]]
    together, _ = _stream(four_paths, [torch.cat(pair) for pair in zip(*cameras, strict=True)])
    for camera, pictures in enumerate(cameras):
        for scores, expected in zip(together, _stream(four_paths, pictures)[0], strict=True):
            torch.testing.assert_close(scores[camera : camera + 1], expected, atol=1e-4, rtol=1e-4)


def test_interleaved_streams_do_not_disturb_each_other(four_paths: TDNet) -> None:
    streams = [[_picture(frame) for frame in range(6)], [_picture(frame, (65, 97)) for frame in range(6)]]
    expected = [_stream(four_paths, pictures)[0] for pictures in streams]
    states = [four_paths.initial_state(), four_paths.initial_state()]
    for frame in range(6):
        for index, pictures in enumerate(streams):
            scores, states[index] = four_paths.advance(pictures[frame], states[index], frame % 4)
            assert torch.equal(scores, expected[index][frame])


def test_a_clip_gives_what_the_stream_gives(four_paths: TDNet) -> None:
    """Training encodes the frames of a clip and recomposes the last one alone."""
    pictures = [_picture(frame) for frame in range(4)]
    state = four_paths.initial_state()
    encoded = [four_paths.encode(picture, index) for index, picture in enumerate(pictures)]
    for index in range(3):
        state = state.push(index, four_paths.entry(encoded[index]), image_size(pictures[index]))
    scores = four_paths.subnetwork(3).classify(four_paths.recompose(encoded[3], state.window(3), 3), encoded[3].details)
    torch.testing.assert_close(scores, _stream(four_paths, pictures)[0][3])


@pytest.mark.parametrize("subnetwork", [-1, 4])
def test_a_subnetwork_out_of_range_is_refused(four_paths: TDNet, subnetwork: int) -> None:
    with pytest.raises(StateError, match=rf"subnetwork is {subnetwork}, expected 0\.\.3"):
        four_paths.step(_picture(0), four_paths.initial_state(), subnetwork)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 90, 122), r"shape \(3, 90, 122\), expected \(B, 3, H, W\)"),
        (torch.zeros(1, 1, 90, 122), r"shape \(1, 1, 90, 122\), expected \(B, 3, H, W\)"),
        (torch.zeros(1, 3, 31, 122), "122x31, expected at least 32 px"),
    ],
)
def test_an_image_of_another_shape_is_refused(four_paths: TDNet, image: Tensor, message: str) -> None:
    with pytest.raises(StateError, match=message):
        four_paths.step(image, four_paths.initial_state(), 0)


@pytest.mark.parametrize("image", [torch.cat([_picture(1)] * 2), _picture(1, (90, 140))], ids=["batch", "size"])
@pytest.mark.parametrize("subnetwork", [0, 1])
def test_a_state_of_another_batch_or_size_is_refused(four_paths: TDNet, image: Tensor, subnetwork: int) -> None:
    """Also before the window is full, when nothing would be read from it."""
    _, state = _stream(four_paths, [_picture(0)])
    with pytest.raises(StateError, match=r"state is of \(batch, height, width\) \(1, 90, 122\)"):
        four_paths.step(image, state, subnetwork)


def test_a_state_of_another_network_is_refused(four_paths: TDNet, two_paths: TDNet) -> None:
    for network, other in ((four_paths, two_paths), (two_paths, four_paths)):
        _, state = _stream(other, [_picture(frame) for frame in range(4)])
        with pytest.raises(StateError, match=f"state is of '{other.info.name}', expected one of '{network.info.name}'"):
            network.step(_picture(4), state, 0)


def test_the_light_model_works_at_odd_sizes(two_paths: TDNet) -> None:
    for height, width in ((361, 487), (32, 33)):
        state = two_paths.initial_state()
        for frame in range(3):
            picture = _picture(frame, (height, width))
            scores, _ = two_paths.advance(picture, state, frame % 2)
            logits, state = two_paths.step(picture, state, frame % 2)
            assert scores.shape == (1, 11, -(-height // 4), -(-width // 4))
            assert logits.shape == (1, 11, height, width)
            assert torch.isfinite(logits).all()


def test_folding_batch_norm_changes_nothing(two_paths: TDNet) -> None:
    unfolded = _calibrated("td2_mnv2")
    pictures = [_picture(frame) for frame in range(4)]
    assert not any(isinstance(module, nn.BatchNorm2d) for module in two_paths.modules())
    for scores, expected in zip(_stream(two_paths, pictures)[0], _stream(unfolded, pictures)[0], strict=True):
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)
