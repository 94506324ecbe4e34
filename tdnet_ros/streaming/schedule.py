"""Which sub-network segments the next frame, at which resolution, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How one frame is segmented. ``scale`` is the share of the network's full resolution, ``reason`` is for people.

    ``keyframe_distance`` counts frames since the last keyframe; in a network without keyframes it stays 0.
    """

    subnetwork: int
    scale: float = 1.0
    keyframe: bool = False
    keyframe_distance: int = 0
    reason: str = "rotation"


class Rotation:
    """TDNet's schedule: the sub-networks in turn, beginning anew with the first one after a reset."""

    def __init__(self, subnetworks: int) -> None:
        self._subnetworks = subnetworks
        self._next = 0

    def reset(self) -> None:
        self._next = 0

    def plan(self) -> Plan:
        """The plan of the next frame; asking does not advance the schedule."""
        return Plan(self._next, reason="rotation" if self._subnetworks > 1 else "single frame")

    def advance(self) -> None:
        """The planned frame was segmented."""
        self._next = (self._next + 1) % self._subnetworks


def steps_to_meet_every_plan(subnetworks: int) -> int:
    """So many frames after a reset have met every computation that a stream will ever ask for.

    The rotation begins with sub-network 0, so a window that is not yet full, or just full, belongs to one known
    sub-network each; from then on every sub-network meets the others in one order, that of the rotation.
    """
    return 2 * subnetworks - 1
