"""Frames in, masks out: one set of weights, any number of streams."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

import numpy as np
import torch

from tdnet_ros.errors import ConfigurationError, ImageError, StateError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks import AUTO, load_network
from tdnet_ros.networks.export import export_folder
from tdnet_ros.networks.loading import Weights
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.plan_walk import walk_plans
from tdnet_ros.streaming.alignment import in_step
from tdnet_ros.streaming.continuity import ContinuityLimits
from tdnet_ros.streaming.engines import build_engine
from tdnet_ros.streaming.exported import open_export
from tdnet_ros.streaming.models import choose_weights
from tdnet_ros.streaming.runtime import Runtime
from tdnet_ros.streaming.score_memory import ScoreMemory
from tdnet_ros.streaming.settings import StreamSettings
from tdnet_ros.streaming.stream import Segmentation, SegmentationStream
from tdnet_ros.streaming.together import Outcome, Retreat, Turn, batches, segment_batch
from tdnet_ros.video.frame import Frame

#: Chosen on rendered streets. On others ``python -m benchmarks.steadiness`` gives a flicker of 3.2 % without a memory,
#: 2.2, 1.8 and 1.7 % at 0.5, 0.7 and 0.8, where mIoU has gained 0.3, 0.4 and 0.4 points.
SCORE_MEMORY = 0.7
_WIDEST = 16


class Segmenter:
    """A network with its weights on a device. Streams share it.

    ``weights`` is a file, a state dict, a folder of ``tdnet-ros export``, the name of weights that ship with the model,
    or the pair of AR-Seg's official files; None takes the model's default ones. ``model`` ``auto`` is the one that the
    weights are of, or without a file the one that ships as default.
    ``input_height``: frames are resized to this height, keeping their aspect; 0 takes the height that the weights
    were made for, in an export the exported one. ``device``,
    ``precision``, ``threads`` and ``runtime`` (the engine) are those of ``tdnet_ros.streaming.runtime.Runtime``.
    ``score_memory``: how much the class probabilities of the frame before count (``score_memory.ScoreMemory``), 0 to
    leave every frame to the network. ``settings``: those that new streams begin with.
    Raises ConfigurationError for a setting that does not exist here and CheckpointError for weights that do not fit.
    """

    def __init__(
        self,
        model: str = AUTO,
        weights: Weights | None = None,
        device: str = "auto",
        precision: str = "auto",
        input_height: int = 0,
        threads: int = 0,
        runtime: str = "auto",
        score_memory: float = SCORE_MEMORY,
        settings: StreamSettings | None = None,
    ) -> None:
        chosen = choose_weights(model, weights)
        folder = export_folder(chosen)
        if folder is not None:
            self.runtime, self.network, self.engine = open_export(folder, model, device, precision, threads, runtime)
        else:
            self.runtime = Runtime(device, precision, threads, runtime)
            network = load_network(
                model,
                chosen,
                device=self.runtime.device,
                dtype=self.runtime.dtype,
            )
            self.engine = build_engine(self.runtime.engine, network, self.runtime.device)
            self.network = self.engine.network  # the engine's own may have other layers: keep no second copy
        minimum = self.network.info.minimum_size
        if input_height and input_height < minimum:
            raise ConfigurationError(f"input_height is {input_height}, expected 0 or at least {minimum} px")
        self.input_height = input_height
        self.score_memory = ScoreMemory(score_memory).weight
        #: How many batches of several frames have failed, and were then tried frame by frame.
        self.failed_batches = 0
        self._retreat = Retreat()
        self.settings = settings or StreamSettings()
        self.check(self.settings)

    @property
    def labels(self) -> LabelSet:
        """The classes that the mask's ids stand for."""
        return self.network.info.labels

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Size (h, w) at which a frame of that size goes through the network.

        Raises ImageError for a picture so wide that at the network's height it would take all memory.
        """
        if width > _WIDEST * height:
            raise ImageError(f"image is {width}x{height}, expected at most {_WIDEST} times as wide as high")
        native_height, native_width = self.network.info.input_size
        rows = self.input_height or native_height
        columns = round(rows * width / height)
        if not self.input_height and abs(columns / native_width - 1) < 0.01:
            columns = native_width  # 2:1 pictures meet official weights at their exact 769x1537
        minimum = self.network.info.minimum_size
        return max(rows, minimum), max(columns, minimum)

    def stream(self, limits: ContinuityLimits | None = None) -> SegmentationStream:
        """A new stream with an empty window: one for each camera."""
        return SegmentationStream(self, limits or ContinuityLimits(), self.settings)

    def step_together(
        self, frames: Sequence[tuple[SegmentationStream, Frame]], confidence: bool = False
    ) -> list[Segmentation | Exception]:
        """Segment one frame of each of several streams; the results in that order.

        Streams that have fallen out of step with the others are brought back (``alignment``). Frames that need the
        same computation go through the network as one batch, which gives what they would give one by one. A batch
        that fails is tried frame by frame; if none of them fails by itself, so are the next ones. A frame that cannot
        be segmented has the exception as its result, StaleFrame when it is not newer than its stream's last; its
        window stays as it was, and the others are segmented all the same. Raises StateError for a stream of another
        segmenter and for two frames of one stream.
        """
        self._check_streams([stream for stream, _ in frames])
        results: dict[SegmentationStream, Segmentation | Exception] = {}
        turns = []
        for stream, frame in frames:
            turn = _begin(stream, frame)
            if isinstance(turn, Exception):
                results[stream] = turn
            else:
                turns.append(turn)
        with self.runtime.inference():
            for batch in self._retreat.divided(batches(in_step(turns))):
                for turn, done in zip(batch, self._outcomes(batch, confidence), strict=True):
                    results[turn.stream] = done if isinstance(done, Exception) else _finish(done)
        return [results[stream] for stream, _ in frames]

    def _outcomes(self, batch: Sequence[Turn], confidence: bool) -> Sequence[Outcome | Exception]:
        """Of every turn of the batch. A step changes no state, so that one which failed can be taken again."""
        try:
            done = segment_batch(batch, self.engine, self.runtime, confidence)
        except Exception as error:  # of any type: device, compiler, engine
            if len(batch) == 1:
                return [_without_frames(error)]
        else:
            if len(batch) > 1:
                self._retreat.end()
            return done
        # Not within the block: the exception's traceback holds the tensors that were there when it was raised.
        self.failed_batches += 1
        self.runtime.release_unused()
        outcomes = [outcome for turn in batch for outcome in self._outcomes([turn], confidence)]
        if not any(isinstance(outcome, Exception) for outcome in outcomes):
            self._retreat.begin()
        return outcomes

    def warm_up(self, height: int, width: int, cameras: int = 1) -> None:
        """Make every step ready that a frame of that size can meet, in batches of that many cameras too.

        The first frames should not be slow: an engine prepares a step when it first meets it.
        """
        settings, network = self.settings, self.network.info
        scales = settings.scales(network) if settings.alternates(network) else None
        # Steps that need no preparation are met once, whatever the order of their window.
        kind = _as_it_is if self.engine.prepares else _without_order
        frame, size = Frame(np.zeros((height, width, 3), np.uint8), stamp_ns=1), self.network_size(height, width)
        for batch in {1, cameras}:
            streams = [self.stream() for _ in range(batch)]
            with self.runtime.inference():
                images = [stream.preprocess(frame, size) for stream in streams]
                image = images[0] if batch == 1 else torch.cat(images)
                walk_plans(self.network, image, scales, self.engine.compute, kind)
            self.step_together([(stream, frame) for stream in streams], confidence=True)

    def check(self, settings: StreamSettings) -> None:
        """Raise ConfigurationError for settings that need steps which an export lacks."""
        settings.check_scales(self.network.info, self.engine.scales)

    def _check_streams(self, streams: Sequence[SegmentationStream]) -> None:
        for stream in streams:
            if stream.segmenter is not self:
                raise StateError("stream belongs to another segmenter, expected one that stream() of this one made")
        if len(set(streams)) < len(streams):
            raise StateError(f"frames are of {len(set(streams))} streams, expected {len(streams)}: one frame of each")


def _begin(stream: SegmentationStream, frame: Frame) -> Turn | Exception:
    """Of whatever type: what one camera's picture does is not the others' trouble."""
    try:
        return Turn.of(stream, frame, stream.begin(frame))
    except Exception as error:
        return _without_frames(error)


def _finish(done: Outcome) -> Segmentation:
    """The result, the stream gone on to its next frame."""
    stream, begun = done.turn.stream, done.turn.begun
    reason = stream.finish(begun, done.state, done.remembered, done.times.total_ms)
    return Segmentation(
        done.mask, done.confidence, begun.plan, done.warm, stream.resets, reason, done.times, begun.motion
    )


def _without_frames(error: Exception) -> Exception:
    """The exception, its traceback without the tensors that were there when it was raised."""
    traceback.clear_frames(error.__traceback__)
    return error


def _as_it_is(plan: StepPlan) -> object:
    return plan


def _without_order(plan: StepPlan) -> object:
    return plan.subnetwork, len(plan.sources), plan.scale, plan.fused
