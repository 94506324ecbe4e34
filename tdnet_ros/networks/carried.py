"""Keyframes by a single-frame network; between them their scores, moved along the motion.

Deep Feature Flow (Zhu et al., CVPR 2017) moves a feature and runs the head on it at every frame. Where the head sees
little of a position's neighbours its scores may as well be moved themselves: fewer channels, and nothing after them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tdnet_ros.networks.bdnet import propagated_weights
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.keyframes import PropagatingNetwork
from tdnet_ros.networks.network import StepPlan


class CarriedScores(PropagatingNetwork):
    """Trunk, head and warp. Built by ``tdnet_ros.networks.load_network``; trained as the network that it is made of.

    The frames between keyframes are not looked at but for their motion, which is followed where it is a guess too:
    there is nothing else to show.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, info: NetworkInfo) -> None:
        super().__init__(info)
        self.whole = nn.ModuleDict({"trunk": trunk, "head": head})

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image (B, 3, H, W) -> scores (B, classes, h, w), of a keyframe twice: the second is what it leaves.

        With ``plan.fused`` it takes the keyframe's scores and the motion, and of the image no more than its size.
        """
        if plan.fused:
            scores, motion = cached
            return (self.propagate(scores, motion, (image.shape[2], image.shape[3])),)
        scores = self.whole["head"](self.whole["trunk"](image))
        return scores, scores


def carried_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ``td2_mnv2`` as those of ``carried_mnv2``: its first sub-network without what its window needs."""
    return {f"whole.{key}": value for key, value in propagated_weights(weights).items()}
