"""TDNet and AR-Seg in one network: sub-networks in turn, at full resolution on keyframes and reduced between them.

Every frame is encoded by one sub-network and recomposed from the window (TDNet, arXiv 2004.01800), whose entries come
from frames of either resolution and lie on one grid. A keyframe's feature is kept; that of a frame between keyframes is
fused with it, warped along the motion between the two (CReFF, AR-Seg, arXiv 2303.07224). One classifier serves all
sub-networks and both resolutions.

Both resolutions have the same weights, but each its own batch norms, statistics and affine. Fusion is at 1/8 of the
picture's resolution: finer it would cost more than the reduced picture saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.creff import CReFF
from tdnet_ros.networks.heads import DetailHead, FCNHead
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import lift, upsample
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.tdnet import SubNetwork, TDNet, TDNetState
from tdnet_ros.networks.tied import aliases, copy_with_own_norms, drop_aliases, fill_aliases
from tdnet_ros.networks.warping import Warp

#: Distance in px of the positions at which frames between keyframes are fused.
FUSION_STRIDE = 8
_LOW = "low."
#: Likeness of two features, their cosine, from which on the keyframe's is believed, and from which on it stands alone.
_ALIKE, _THE_SAME = 0.4, 0.8
#: Where the gate of the details begins, before its sigmoid: 0.88.
_OPEN = 2.0


@dataclass(frozen=True)
class TDARState(TDNetState):
    """A window, and what the newest keyframe left (see ``TDAR.keyframe_names``); () before the first one."""

    keyframe: tuple[Tensor, ...] = ()


class Observation(NamedTuple):
    """Feature (B, C, H/8, W/8) of a frame, a fused one between keyframes, its scores and the tensors to keep."""

    feature: Tensor
    scores: Tensor
    kept: tuple[Tensor, ...]


class TDAR(TDNet):
    """Sub-networks with two sets of batch norms, a fusion and one classifier. Built by ``load_network``.

    ``detail``: where scores are finer than the fusion, the share of a keyframe's scores that the fusion's resolution
    does not carry is kept, warped, and added to those of the frames after it, times a gate from the fused feature. As
    the classifier is linear, that is the same as keeping all channels at the finer resolution, for an eighth of the
    warping.
    """

    def __init__(
        self,
        subnetworks: Sequence[SubNetwork],
        window_stride: int,
        fusion: CReFF,
        warp: Warp,
        detail: nn.Conv2d | None,
        info: NetworkInfo,
    ) -> None:
        super().__init__(subnetworks, window_stride, info)
        self.classifier = _head(subnetworks[0]).classifier
        for subnetwork in subnetworks[1:]:
            _head(subnetwork).classifier = self.classifier
        reduced = [copy_with_own_norms(subnetwork) for subnetwork in subnetworks]
        for subnetwork in reduced:
            _head(subnetwork).classifier = self.classifier
        self.low = nn.ModuleList(reduced)
        self.fusion = fusion
        self.warp = warp
        self.detail = detail
        self.keyframe_names = ("feature",) if detail is None else ("feature", "detail")

    def branch(self, plan: StepPlan) -> SubNetwork:
        """What encodes a frame of that plan: the sub-network, with the batch norms of its resolution."""
        return cast(SubNetwork, (self.low if plan.fused else self.subnetworks)[plan.subnetwork])

    def initial_state(self, batch: int | None = None, height: int | None = None, width: int | None = None) -> TDARState:
        """An empty window and no keyframe."""
        return TDARState(self.info.name, (None,) * len(self.subnetworks))

    def plan(
        self, state: TDNetState, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None
    ) -> StepPlan:
        plan = super().plan(state, subnetwork, keyframe, scale)
        if keyframe:
            return plan
        if not cast(TDARState, state).keyframe:
            raise StateError("keyframe is False and the state has no keyframe, expected a keyframe first")
        return plan._replace(fused=True)

    def cached(self, state: TDNetState, plan: StepPlan) -> tuple[Tensor, ...]:
        """Query, key and value (B, N, d) of every source of the plan, oldest first; then what the keyframe left."""
        entries = super().cached(state, plan)
        return (*entries, *cast(TDARState, state).keyframe) if plan.fused else entries

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image, window and keyframe -> scores (B, classes, h, w), the frame's own entry and, of a keyframe, more.

        With ``plan.fused`` it takes the motion to the keyframe (see ``warping``) as its last tensor.
        """
        observed = self.observe(plan, image, *cached)
        return observed.scores, *observed.kept

    def observe(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> Observation:
        """As ``compute``, with the feature that the classifier sees, on the fusion's grid: for training."""
        branch, entries = self.branch(plan), len(self.entry_names) * len(plan.sources)
        value, details, entry = self.propagate(branch, plan, image, cached[:entries])
        feature = _head(branch).embed(branch.norm(value), details)
        kept = (entry.query, entry.key, entry.value)
        picture = (image.shape[2], image.shape[3])
        if not plan.fused:
            scores = self.classifier(feature)
            feature, keyframe = self._leave_behind(feature, scores, picture)
            return Observation(feature, scores, (*kept, *keyframe))
        *keyframe_tensors, motion = cached[entries:]
        warped = self.warp(keyframe_tensors[0], motion, picture)
        fused = take_over(self.fusion(feature, warped), feature, warped, self.info.align_corners)
        scores = self.classifier(fused)
        if self.detail is not None:
            finer = self.warp(keyframe_tensors[1], motion, picture)
            gate = torch.sigmoid(self.detail(fused))
            scores = torch.addcmul(lift(scores, finer), lift(gate, finer), finer)
        return Observation(fused, scores, kept)

    def remember(
        self, state: TDNetState, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]
    ) -> TDNetState:
        entries = len(self.entry_names)
        after = cast(TDARState, super().remember(state, plan, image_size, kept[:entries]))
        return after if plan.fused else replace(after, keyframe=kept[entries:])

    def check(self, image: Tensor, state: Any, subnetwork: int) -> None:
        super().check(image, state, subnetwork)
        if not isinstance(state, TDARState):
            raise StateError(f"state is {type(state).__name__}, expected one of '{self.info.name}'.initial_state()")

    def _leave_behind(
        self, feature: Tensor, scores: Tensor, picture: tuple[int, int]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """A keyframe's feature on the fusion's grid, and what is kept: it, and scores that this grid cannot carry.

        The latter only with ``detail``.
        """
        size = (-(-picture[0] // FUSION_STRIDE), -(-picture[1] // FUSION_STRIDE))
        coarse = upsample(feature, size, align_corners=False)
        if self.detail is None:
            return coarse, (coarse,)
        return coarse, (coarse, scores - lift(self.classifier(coarse), scores))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As a module's, each tied weight once, under the name that it has at full resolution."""
        weights = super().state_dict(*args, **kwargs)
        drop_aliases(weights, aliases(self, _LOW), kwargs.get("prefix", ""))
        return weights

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        fill_aliases(state_dict, aliases(self, _LOW), prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def take_over(fused: Tensor, low: Tensor, warped: Tensor, align_corners: bool) -> Tensor:
    """The fused feature, and more of the keyframe's warped one G the more the low-resolution feature u is like it.

    y = f + a (G - f), a = (cos(u, G) - 0.4) / (0.8 - 0.4) within 0..1, at each position. All (B, C, H, W) but u,
    (B, C, h, w). Not of AR-Seg, whose branches have weights of their own: here both resolutions share theirs, so that
    the features of one thing at two resolutions can be told from those of two things, and that is where motion is
    wrong or something is new. CReFF alone can only add to u; its softmax over 49 neighbours blurs what it adds. Where
    nothing is known of the motion G is 0, and so is a.
    """
    raised = upsample(low, (warped.shape[2], warped.shape[3]), align_corners)
    product = (raised * warped).sum(1, keepdim=True)
    lengths = raised.square().sum(1, keepdim=True) * warped.square().sum(1, keepdim=True)
    alike = product * lengths.clamp(min=1e-6).rsqrt()
    return torch.lerp(fused, warped, ((alike - _ALIKE) / (_THE_SAME - _ALIKE)).clamp(0, 1))


def united_weights(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a TDNet as the start of a TDAR with as many of its sub-networks, or with its first ones.

    ``fresh`` are the TDAR's own. The batch norms of the low resolution begin as those of the full one; the classifier
    is the mean of the sub-networks'. The fusion begins with values of zero, so that it adds nothing, and attends to
    what is alike: by the product of the features themselves over the root of their number. The gate of the keyframe's
    details begins nearly open.
    """
    united = dict(fresh)
    for name in ("query", "key", "value"):
        for part in ("weight", "bias"):
            united[f"fusion.{name}.{part}"] = torch.zeros_like(fresh[f"fusion.{name}.{part}"])
    if "detail.weight" in fresh:
        united |= {"detail.weight": torch.zeros_like(fresh["detail.weight"])}
        united |= {"detail.bias": torch.full_like(fresh["detail.bias"], _OPEN)}
    for name in ("query", "key"):
        united[f"fusion.{name}.weight"][:, :, 1, 1] = len(fresh["fusion.query.bias"]) ** -0.25
    subnetworks = {key.split(".")[1] for key in fresh if key.startswith(_LOW)}
    for key in fresh:
        source = f"subnetworks.{key.removeprefix(_LOW)}" if key.startswith(_LOW) else key
        if key.startswith("classifier."):
            of_all = [weights[f"subnetworks.{index}.head.{key}"].double() for index in sorted(subnetworks)]
            united[key] = torch.stack(of_all).mean(0).to(fresh[key].dtype)
        elif source in weights:
            united[key] = weights[source]
    return united


def tdnet_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The TDNet that a TDAR is on its keyframes: what belongs to the frames between them is left out."""
    indices = {key.split(".")[1] for key in weights if key.startswith("subnetworks.")}
    alone = {key: value for key, value in weights.items() if key.startswith("subnetworks.")}
    for key in ("classifier.weight", "classifier.bias"):
        alone |= {f"subnetworks.{index}.head.{key}": weights[key] for index in indices if key in weights}
    return alone


def _head(subnetwork: SubNetwork) -> FCNHead | DetailHead:
    return cast("FCNHead | DetailHead", subnetwork.head)
