"""A recording with labels in, an evaluation out: what both modes, offline and in the graph, have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros import __version__
from tdnet_ros.errors import SourceError, StaleFrame, TdnetRosError
from tdnet_ros.evaluation.label_map import LabelMap, read_label_map, same_labels
from tdnet_ros.evaluation.label_tracks import LabelTrack, image_topic_beside, open_labels
from tdnet_ros.evaluation.latency_table import percentiles
from tdnet_ros.evaluation.overlay_video import as_rgb
from tdnet_ros.evaluation.provenance import describe_machine, sha256_of
from tdnet_ros.evaluation.result import Delivery, Evaluation, FrameResult
from tdnet_ros.evaluation.scorer import Scorer
from tdnet_ros.evaluation.worst_frames import WorstFrames, small_pictures
from tdnet_ros.labels import UNLABELLED, LabelSet
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.image_source import ImageSource, SourceImage
from tdnet_ros.video.source_frames import grey
from tdnet_ros.video.sources import open_source

Ids = npt.NDArray[np.uint8]
#: Labels are resized to the mask; a picture of other proportions, by more than this, is of something else.
_ASPECT_TOLERANCE = 0.01
#: So many ids are named in a warning.
_SHOWN = 12
#: Told the number of frames done, and that of all where it is known.
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated. Empty strings and 0 mean: the default.

    ``recording`` is a rosbag2, a video or a folder of pictures, ``image_topic`` the bag's image topic where it has
    several; ``labels`` is a topic of the bag or a folder of label images; ``label_map`` a mapping file.
    """

    recording: Path
    labels: str = ""
    image_topic: str = ""
    label_map: Path | None = None
    label_tolerance_ms: float = 0.0
    rate_hz: float = 0.0
    model: str = ""
    weights: str = ""
    device: str = ""
    node_parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recording:
    """An opened recording with its labels and the classes in which it is scored; ``topic`` is a bag's image topic.

    ``ids_seen`` (256,) counts the pixels of all label images that were asked for, by their id.
    """

    source: ImageSource
    topic: str
    labels: LabelTrack | None
    label_map: LabelMap
    ids_seen: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))

    def labels_of(self, image: SourceImage, size: tuple[int, int]) -> Ids | None:
        """The scored ids of a frame's labels at that size (H, W), None for a frame without.

        Labels of another size are resized (nearest). Raises SourceError for those of other proportions.
        """
        raw = self.labels.of(image) if self.labels is not None else None
        if raw is None:
            return None
        counts = cv2.calcHist([raw], [0], None, [256], [0, 256])
        self.ids_seen[:] += np.asarray(counts, np.int64).ravel()
        if raw.shape != size:
            self._check_proportions(image, raw, size)
            raw = np.asarray(cv2.resize(raw, size[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
        return self.label_map.labels[raw]

    def _check_proportions(self, image: SourceImage, raw: Ids, size: tuple[int, int]) -> None:
        (rows, columns), (height, width) = raw.shape, size
        wide, high = abs(columns * height / rows - width), abs(rows * width / columns - height)
        # A pixel may come from rounding.
        if wide > max(1.0, _ASPECT_TOLERANCE * width) and high > max(1.0, _ASPECT_TOLERANCE * height):
            raise SourceError(
                f"labels of image {image.index} are {columns}x{rows}, the mask is {width}x{height}: "
                "expected the same proportions"
            )

    def warnings(self) -> list[str]:
        """In words, what of recording and labels could not be read or used."""
        found = [*self.source.damage, *(self.labels.damage if self.labels is not None else [])]
        strange = np.flatnonzero((self.ids_seen > 0) & ~self.label_map.known)
        if strange.size:
            share = 100 * self.ids_seen[strange].sum() / self.ids_seen.sum()
            shown = ", ".join(map(str, strange[:_SHOWN])) + (", ..." if strange.size > _SHOWN else "")
            found.append(
                f"label ids {shown} are not of '{self.label_map.classes.name}': counted as unlabelled, "
                f"{share:.2f} % of the pixels"
            )
        if self.ids_seen.any() and not np.delete(self.ids_seen, UNLABELLED).any():
            found.append("all labels are unlabelled")
        return list(dict.fromkeys(found))


def open_recording(settings: EvaluationSettings, predicted: LabelSet) -> Recording:
    """Open recording, labels and mapping. Raises SourceError or ConfigurationError for what cannot be used."""
    topic = settings.image_topic or image_topic_beside(settings.recording, settings.labels)
    source = open_source(settings.recording, settings.rate_hz or None, topic or None)
    label_map = read_label_map(settings.label_map, predicted) if settings.label_map else same_labels(predicted)
    labels = None
    if settings.labels:
        tolerance_ns = round(settings.label_tolerance_ms * 1e6)
        labels = open_labels(source, settings.recording, settings.labels, tolerance_ns)
    return Recording(source, topic, labels, label_map)


class Judge:
    """Takes the masks of a recording in order and gathers what an Evaluation says of them."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._scorer = Scorer(len(recording.label_map.classes))
        self._last_index = -1
        self._resets = 0
        self._rejected: dict[str, tuple[int, TdnetRosError]] = {}
        self.frames: list[FrameResult] = []
        self.worst = WorstFrames()

    def judge(self, image: SourceImage, frame: Frame, mask: Ids, facts: FrameResult) -> None:
        """Count one mask (H, W) of the network's own classes; ``facts.miou`` is filled in here."""
        scored = self._recording.label_map.predictions[mask]
        labels = self._recording.labels_of(image, mask.shape[:2])
        if facts.resets != self._resets:
            self._scorer.interrupt()
        elif image.index != self._last_index + 1:
            self._scorer.skip()
        self._last_index, self._resets = image.index, facts.resets
        miou = self._scorer.add(grey(frame), scored, labels, facts.keyframe_distance)
        if labels is not None and self.worst.wants(miou):
            self.worst.add(small_pictures(miou, image.index, image.stamp_ns, as_rgb(frame), labels, scored))
        self.frames.append(replace(facts, miou=miou))

    def reject(self, error: TdnetRosError) -> None:
        """Count an image that could not be used, and why."""
        kind = "had a stamp that was not newer" if isinstance(error, StaleFrame) else "could not be used"
        count, first = self._rejected.get(kind, (0, error))
        self._rejected[kind] = count + 1, first

    @property
    def rejected(self) -> int:
        """Number of images that could not be used."""
        return sum(count for count, _ in self._rejected.values())

    def require_masks(self) -> None:
        """Raise SourceError when not a single image could be used."""
        if not self.frames:
            reasons = [str(first) for _, first in self._rejected.values()] + self._recording.warnings()
            raise SourceError(
                f"none of the {self.rejected} images of {self._recording.source.name} could be used: "
                + ("; ".join(reasons) or "there are none")
            )

    def conclude(
        self,
        mode: str,
        settings: EvaluationSettings,
        predicted: LabelSet,
        configuration: dict[str, Any],
        delivery: Delivery,
        latency_aware_miou: float = math.nan,
        warnings: Sequence[str] = (),
    ) -> Evaluation:
        """The evaluation of everything that was judged; ``warnings`` come behind those of the recording."""
        recording, classes = self._recording, self._recording.label_map.classes
        stages = self.frames[0].times_ms if self.frames else {}
        found = {stage: percentiles(frame.times_ms[stage] for frame in self.frames) for stage in stages}
        ages = [frame.times_ms["age"] for frame in self.frames if "age" in frame.times_ms]
        source = {
            "name": recording.source.name,
            "sha256": sha256_of(settings.recording),
            "rate_hz": recording.source.rate_hz,
            "size": list(recording.source.size),
            "labels": recording.labels.name if recording.labels else None,
        }
        return Evaluation(
            mode=mode,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            package_version=__version__,
            configuration=configuration,
            machine=describe_machine(),
            source=source,
            label_map=recording.label_map.describe(predicted),
            classes=list(classes.names),
            colours=[list(colour) for colour in classes.colours],
            scores=self._scorer.scores(),
            latency_aware_miou=latency_aware_miou,
            latency_ms={stage: values for stage, values in found.items() if values is not None},
            age_jitter_ms=_deviation(ages),
            delivery=delivery,
            warnings=[*recording.warnings(), *self._rejections(), *warnings],
            frames=self.frames,
        )

    def _rejections(self) -> list[str]:
        return [f"{count} images {kind}; the first: {first}" for kind, (count, first) in self._rejected.items()]


def _deviation(values: Iterable[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.std(known)) if known else math.nan
