"""Networks without a memory: the baselines that TDNet is measured against, and its teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, reduce


@dataclass(frozen=True)
class NoState:
    """The state of a network that remembers nothing."""

    network: str


class SingleFrame(SegmentationNetwork):
    """Path and head, frame by frame: the step contract of a network whose state stays empty."""

    def __init__(self, path: nn.Module, head: nn.Module, info: NetworkInfo) -> None:
        super().__init__(info)
        self.path = path
        self.head = head

    def initial_state(self, batch: int | None = None, height: int | None = None, width: int | None = None) -> NoState:
        return NoState(self.info.name)

    def plan(self, state: Any, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None) -> StepPlan:
        return StepPlan(subnetwork, scale=self.scale_of(keyframe, scale))

    def cached(self, state: Any, plan: StepPlan) -> tuple[Tensor, ...]:
        return ()

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        z, details = self.path(reduce(image, plan.scale))
        scores = self.head(z, details)
        return (scores if plan.scale == 1 else self.scores_over(scores, *image.shape[2:]),)

    def remember(self, state: Any, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]) -> Any:
        return state

    def check(self, image: Tensor, state: Any, subnetwork: int) -> None:
        super().check(image, state, subnetwork)
        if state != self.initial_state():
            raise StateError(f"state is {type(state).__name__}, expected that of '{self.info.name}'.initial_state()")

    def is_warm(self, state: Any, subnetwork: int = 0) -> bool:
        return True
