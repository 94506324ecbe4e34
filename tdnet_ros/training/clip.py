"""Forward of a clip with gradients: what a stream computes, from P frames at once.

A clip has as many frames as the network has sub-networks, each encoded by a sub-network of its own. All P of them get
gradients, from the newest frame's loss alone, through the window.

The official training classes do the same (Training/ptsemseg/models/td4_psp/td4_psp.py, ``forward_path1`` to ``4``),
with these differences: theirs keep every third position of a past frame while their test code keeps every fourth; here
both are the network's ``window_stride``, so that a network is trained as it is run. Theirs subsample a past frame
before its encoder, here after it, which is the same but for the statistics of the encoder's batch norms while these
are being trained. Theirs drop 0.1 of the attention weights and of the transferred values while training; here no
dropout stands in the propagation, only in the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from tdnet_ros.errors import StateError
from tdnet_ros.networks.network import image_size
from tdnet_ros.networks.tdnet import Encoded, TDNet


class ClipScores(NamedTuple):
    """Scores of a clip's newest frame (B, classes, h, w): with the window, and of its own path alone."""

    recomposed: Tensor
    own_path: Tensor


def clip_forward(network: TDNet, images: Sequence[Tensor] | Tensor, order: Sequence[int]) -> ClipScores:
    """Normalised images (P, B, 3, H, W), or P of (B, 3, H, W), oldest first -> scores of the newest.

    ``order`` names the sub-network of each frame, every one once. In eval mode ``recomposed`` equals the scores of
    ``network.advance`` over the same frames from an empty window. Raises StateError for another number of images,
    another order, or images that the network cannot take.
    """
    encoded = encode_clip(network, images, order)
    own = own_path_scores(network, encoded[-1], order[-1])
    return ClipScores(recomposed_scores(network, encoded, order), own)


def encode_clip(network: TDNet, images: Sequence[Tensor] | Tensor, order: Sequence[int]) -> list[Encoded]:
    """What each frame's sub-network makes of it alone; arguments and errors as of ``clip_forward``."""
    count = len(network.subnetworks)
    if sorted(order) != list(range(count)):
        raise StateError(f"order is {list(order)}, expected each of the sub-networks 0..{count - 1} once")
    if len(images) != count:
        raise StateError(f"clip has {len(images)} images, expected {count}, one for each sub-network")
    state = network.initial_state()
    for image, subnetwork in zip(images, order, strict=True):
        network.check(image, state, subnetwork)
        if image_size(image) != image_size(images[0]):
            raise StateError(
                f"clip has images of (batch, height, width) {image_size(images[0])} and {image_size(image)}, "
                "expected one size"
            )
    return [network.encode(image, subnetwork) for image, subnetwork in zip(images, order, strict=True)]


def own_path_scores(network: TDNet, encoded: Encoded, subnetwork: int) -> Tensor:
    """Scores (B, classes, h, w) of one frame's own value, as while the window is not full."""
    return network.subnetwork(subnetwork).classify(encoded.value, encoded.details)


def recomposed_scores(network: TDNet, encoded: Sequence[Encoded], order: Sequence[int]) -> Tensor:
    """Scores (B, classes, h, w) of the newest frame of an encoded clip, with all older frames as its window."""
    window = [(source, network.entry(frame)) for source, frame in zip(order[:-1], encoded[:-1], strict=True)]
    if not window:
        return own_path_scores(network, encoded[-1], order[-1])
    feature = network.recompose(encoded[-1], window, order[-1])
    return network.subnetwork(order[-1]).classify(feature, encoded[-1].details)
