"""Frames in, masks out: one set of weights, any number of streams."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks import load_network, network_info
from tdnet_ros.streaming.continuity import Continuity, ContinuityLimits
from tdnet_ros.streaming.runtime import Preprocessor, Runtime
from tdnet_ros.streaming.schedule import Plan, Rotation
from tdnet_ros.video.frame import Frame

#: The model that ships with weights.
DEFAULT_MODEL = "td2_mnv2"
_SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds on the steady clock."""

    preprocess_ms: float
    network_ms: float
    postprocess_ms: float


@dataclass(frozen=True)
class Segmentation:
    """What became of one frame.

    ``mask`` and ``confidence`` are (H, W) uint8 at the frame's size and belong to the caller; confidence is the
    softmax of the winning class x 255, None unless asked for. ``warm`` tells whether the whole window took part,
    ``reset_reason`` why the window was emptied before this frame, if it was; ``resets`` counts how often so far.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    plan: Plan
    warm: bool
    resets: int
    reset_reason: str | None
    times: StageTimes


class Segmenter:
    """A network with its weights on a device. Streams share it.

    ``weights`` is a file or a state dict; None takes the weights that ship with the model. ``input_height``: frames
    are resized to this height, keeping their aspect; 0 takes the height that the weights were made for. Raises
    ConfigurationError for a setting that does not exist here and CheckpointError for weights that do not fit.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        weights: Path | str | Mapping[str, Any] | None = None,
        device: str = "auto",
        precision: str = "auto",
        input_height: int = 0,
        threads: int = 0,
    ) -> None:
        info = network_info(model)
        if input_height and input_height < info.minimum_size:
            raise ConfigurationError(f"input_height is {input_height}, expected 0 or at least {info.minimum_size} px")
        self.runtime = Runtime(device, precision, threads)
        self.network = load_network(
            model,
            shipped_weights(model) if weights is None else weights,
            device=self.runtime.device,
            dtype=self.runtime.dtype,
        )
        self.input_height = input_height

    @property
    def labels(self) -> LabelSet:
        """The classes that the mask's ids stand for."""
        return self.network.info.labels

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (h, w) at which a frame of that size goes through the network."""
        native_height, native_width = self.network.info.input_size
        rows = self.input_height or native_height
        columns = round(rows * width / height)
        if not self.input_height and abs(columns / native_width - 1) < 0.01:
            columns = native_width  # 2:1 pictures meet official weights at their exact 769x1537
        minimum = self.network.info.minimum_size
        return max(rows, minimum), max(columns, minimum)

    def stream(self, limits: ContinuityLimits | None = None) -> SegmentationStream:
        """A new stream with an empty window: one for each camera."""
        return SegmentationStream(self, limits or ContinuityLimits())

    def warm_up(self, height: int, width: int) -> None:
        """Run every sub-network, and one with its whole window, at that size: the first frame should not be slow."""
        stream = self.stream()
        image = np.zeros((height, width, 3), np.uint8)
        for index in range(self.network.info.subnetworks + 1):
            stream.step(Frame(image, stamp_ns=index + 1), confidence=True)


class SegmentationStream:
    """One camera's state. Not for use by two threads at once."""

    def __init__(self, segmenter: Segmenter, limits: ContinuityLimits) -> None:
        self._segmenter = segmenter
        self._network = segmenter.network
        self._preprocess = Preprocessor(segmenter.network.info, segmenter.runtime)
        self._continuity = Continuity(limits)
        self._schedule = Rotation(segmenter.network.info.subnetworks)
        self._state = self._network.initial_state()
        self._fresh = True
        self._pending_reason: str | None = None
        self.resets = 0

    @property
    def limits(self) -> ContinuityLimits:
        """When a gap or a step back in time empties the window; may be replaced at any time."""
        return self._continuity.limits

    @limits.setter
    def limits(self, limits: ContinuityLimits) -> None:
        self._continuity.limits = limits

    def reset(self, reason: str = "asked for by the caller") -> None:
        """Empty the window. Counted, unless the window is empty already."""
        if self._fresh:
            return
        self._continuity.forget()
        self._empty(reason)

    def step(self, frame: Frame, confidence: bool = False) -> Segmentation:
        """Segment one frame. Raises StaleFrame, and leaves the window as it was, when the frame is not newer.

        A frame that does not continue the stream empties the window first. When the network fails, the window
        stays as it was before the frame.
        """
        reason = self._continuity.check(frame)
        if reason is not None:
            self._empty(reason)
        plan = self._schedule.plan()
        size = self._segmenter.network_size(frame.height, frame.width)
        runtime = self._segmenter.runtime
        started = time.perf_counter()
        with runtime.inference():
            image = self._preprocess(frame, size)
            runtime.synchronise()
            preprocessed = time.perf_counter()
            warm = self._network.is_warm(self._state, plan.subnetwork) or self._network.info.subnetworks == 1
            scores, state = self._network.advance(image, self._state, plan.subnetwork)
            runtime.synchronise()
            inferred = time.perf_counter()
            decoded = self._network.decode_mask(scores, (frame.height, frame.width), confidence)
            mask = decoded.mask[0].cpu().numpy()
            certainty = decoded.confidence[0].cpu().numpy() if decoded.confidence is not None else None
            finished = time.perf_counter()
        self._state, self._fresh = state, False
        self._schedule.advance()
        reset_reason, self._pending_reason = self._pending_reason, None
        times = StageTimes(
            1e3 * (preprocessed - started),
            1e3 * (inferred - preprocessed),
            1e3 * (finished - inferred),
        )
        return Segmentation(mask, certainty, plan, warm, self.resets, reset_reason, times)

    def _empty(self, reason: str) -> None:
        self._state = self._network.initial_state()
        self._schedule.reset()
        self._fresh = True
        self._pending_reason = reason
        self.resets += 1


def shipped_weights(model: str) -> Path:
    """The weight file that ships with a model; raises CheckpointError for a model that has none."""
    path = _SHIPPED_WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        shipped = sorted(found.stem for found in _SHIPPED_WEIGHTS.glob("*.safetensors"))
        raise CheckpointError(
            f"weights is not set and model '{model}' ships without weights (these ship with some: {shipped}): "
            "name a weight file"
        )
    return path
