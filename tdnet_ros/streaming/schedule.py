"""Which sub-network segments the next frame, at which resolution, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tdnet_ros.video.frame import MotionField

#: The reason of a keyframe that is due because the last one is so long ago.
INTERVAL = "keyframe interval"
#: What a reason says of frames that are segmented otherwise than their own stream would have them.
TOGETHER = "with the other cameras"


@dataclass(frozen=True)
class Plan:
    """How one frame is segmented. ``scale`` is the share of the network's full resolution, ``reason`` is for people.

    ``keyframe_distance`` counts frames since the last keyframe, those included that were decoded and not segmented; in
    a network without keyframes it stays 0.
    """

    subnetwork: int
    scale: float = 1.0
    keyframe: bool = False
    keyframe_distance: int = 0
    reason: str = "rotation"


class Schedule(Protocol):
    """Decides frame by frame; asking for a plan does not advance it."""

    #: The sub-network whose turn it is.
    next_subnetwork: int

    def plan(self, motion: MotionField | None) -> Plan:
        """The plan of the next frame, given the motion from it to the last keyframe; None where nothing tells it."""

    def plan_keyframe_early(self, motion: MotionField | None) -> Plan | None:
        """As a keyframe before it is due; None where the last one is too near, or there are no keyframes."""

    def advance(self, plan: Plan) -> None:
        """The frame was segmented, by that plan, or by one for another sub-network."""

    def reset(self) -> None:
        """The next frame is the first of a new stream."""

    def request_keyframe(self, reason: str) -> None:
        """The next frame that is segmented is a keyframe."""


class Rotation:
    """TDNet's schedule: the sub-networks in turn, beginning anew with the first one after a reset."""

    def __init__(self, subnetworks: int, first: int = 0) -> None:
        self.next_subnetwork = first
        self._subnetworks = subnetworks

    def reset(self) -> None:
        self.next_subnetwork = 0

    def plan(self, motion: MotionField | None = None) -> Plan:
        return Plan(self.next_subnetwork, reason="rotation" if self._subnetworks > 1 else "single frame")

    def plan_keyframe_early(self, motion: MotionField | None) -> None:
        """Every frame is computed in full."""

    def advance(self, plan: Plan) -> None:
        self.next_subnetwork = (plan.subnetwork + 1) % self._subnetworks

    def request_keyframe(self, reason: str) -> None:
        """Every frame is computed in full: there is nothing to ask for."""
