"""What a caller has to know of a network to feed it and to read its scores."""

from __future__ import annotations

from dataclasses import dataclass

from tdnet_ros.labels import LabelSet


@dataclass(frozen=True)
class NetworkInfo:
    """Facts of one network. ``terms`` are the license terms of its weights, '' where their file states none.

    ``mean`` and ``std`` are per channel in RGB order for pixels scaled to 0..1. ``stride`` is the distance of two
    scores in input pixels, ``input_size`` (height, width) the size that the weights were made for,
    ``align_corners`` how scores are upsampled. ``low_resolution`` is the scale of the frames between keyframes that the
    weights were trained for, 1 in a network without keyframes; ``keyframe_interval`` is the longest distance of two
    keyframes, in frames, that they are meant for, 1 where every frame is computed in full. ``encodes_between``: whether
    the frames between keyframes are encoded; those that are not have no scale.
    """

    name: str
    labels: LabelSet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stride: int
    minimum_size: int
    input_size: tuple[int, int]
    align_corners: bool
    subnetworks: int
    colour_order: str = "rgb"
    terms: str = ""
    low_resolution: float = 1.0
    keyframe_interval: int = 1
    encodes_between: bool = True

    @property
    def stated_terms(self) -> str:
        """The terms of the weights, for people."""
        return self.terms or "terms not stated"
