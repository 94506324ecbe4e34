"""A labelled clip through a network: scores of the whole and confusion by frame, kept on disk."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdnet_ros import __version__
from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.accuracy_settings import FRAME_BY_FRAME, ClipSettings, RowSettings
from tdnet_ros.evaluation.label_map import same_labels
from tdnet_ros.evaluation.make_bag import from_index
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.evaluation.provenance import describe_machine
from tdnet_ros.evaluation.result import scores_from_json, scores_to_json
from tdnet_ros.evaluation.scorer import Scorer, Scores
from tdnet_ros.labels import LabelSet
from tdnet_ros.streaming import ContinuityLimits, Segmenter
from tdnet_ros.streaming.continuity import Continuity
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.source_frames import frame_of, grey

Ids = npt.NDArray[np.uint8]
#: A frame and its labels (H, W) -> the mask (H, W) that is scored.
Masks = Callable[[Frame, Ids], Ids]
#: So short a gap that every frame is the first of its stream.
_NO_GAP_S = 1e-9
#: To be raised when kept scores no longer mean the same.
_LAYOUT = 2


@dataclass(frozen=True)
class ClipScores:
    """Scores of a clip and its confusion by frame, (F, C, C) pixels by (true, predicted); ``file`` holds both.

    ``distances`` (F,) are those from the keyframe.
    """

    scores: Scores
    confusion: npt.NDArray[np.int64]
    distances: npt.NDArray[np.int64]
    file: Path


def open_row(row: RowSettings, device: str) -> Segmenter:
    """The row's network. Raises ConfigurationError and CheckpointError, naming the row's weights."""
    return Segmenter(
        row.model,
        row.weight_file,
        device,
        input_height=row.input_height,
        score_memory=row.score_memory,
        settings=row.stream_settings,
    )


def limits_of(runs: str) -> ContinuityLimits:
    """When a stream that runs like that is emptied: as the node does it by default, or before every frame."""
    return ContinuityLimits(max_gap_s=_NO_GAP_S) if runs == FRAME_BY_FRAME else ContinuityLimits()


class NetworkMasks:
    """Masks of a new stream of that segmenter, whose frame number ``keyframe`` is a keyframe whatever it would be.

    ``distances`` has by frame the distance to its keyframe.
    """

    def __init__(self, segmenter: Segmenter, runs: str, keyframe: int = 0) -> None:
        self.distances: list[int] = []
        self._stream = segmenter.stream(limits_of(runs))
        self._keyframe = keyframe

    def __call__(self, frame: Frame, labels: Ids) -> Ids:
        if self._keyframe and len(self.distances) == self._keyframe:
            self._stream.request_keyframe("of the table")
        done = self._stream.step(frame)
        self.distances.append(done.plan.keyframe_distance)
        return done.mask


def true_masks(frame: Frame, labels: Ids) -> Ids:
    """The control of the temporal measures: the labels themselves as masks."""
    return labels


def score_clip(
    clip: ClipSettings, labels: LabelSet, masks: Masks, progress: Callable[[], None] = lambda: None
) -> tuple[Scores, npt.NDArray[np.int64]]:
    """Scores of the clip's masks, and its confusion by frame (F, C, C).

    Label ids that are none of the set's count as unlabelled. Frames are compared with the one before unless the video
    itself has a gap there that is too long for a stream: what the network's window does makes no difference.
    ``progress`` is called after each frame. Raises SourceError for frames and labels that cannot be read.
    """
    scorer, video, ids = Scorer(len(labels)), Continuity(ContinuityLimits()), same_labels(labels).labels
    by_frame = []
    for frame, raw in labelled_frames(clip):
        truth = ids[raw]
        if truth.shape != frame.image.shape[:2]:
            raise SourceError(
                f"clip '{clip.name}': labels are {truth.shape[1]}x{truth.shape[0]}, expected the frame's size "
                f"{frame.width}x{frame.height}"
            )
        mask = masks(frame, truth)
        if video.check(frame) is not None:
            scorer.interrupt()
        scorer.add(grey(frame), mask, truth)
        matrix = ConfusionMatrix(len(labels))
        matrix.add(truth, mask)
        by_frame.append(matrix.counts)
        progress()
    return scorer.scores(), np.stack(by_frame)


def labelled_frames(clip: ClipSettings) -> Iterator[tuple[Frame, Ids]]:
    """Frames of a clip in order with their labels (H, W), ids as the label images have them."""
    for image in from_index(Path(clip.index), clip.split, clip.sequence):
        if image.labels is not None:
            yield frame_of(image.image), image.labels


def describe_clip(clip: ClipSettings) -> dict[str, Any]:
    """Number of frames, and a SHA-256 over pixels, labels and times. Raises SourceError."""
    digest, frames = hashlib.sha256(), 0
    for frame, labels in labelled_frames(clip):
        digest.update(f"{frame.stamp_ns} {frame.image.shape} {labels.shape}".encode())
        digest.update(frame.image.tobytes())
        digest.update(labels.tobytes())
        frames += 1
    return {"frames": frames, "sha256": digest.hexdigest()}


class ScoreStore:
    """Scores of earlier runs, so that a row that is done needs no second run. They count as long as weights, settings,
    data, device and versions are the same; a changed network code does not show: then empty the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._versions = {"layout": _LAYOUT, "package": __version__, **describe_machine()["versions"]}

    def find(self, what: dict[str, Any]) -> ClipScores | None:
        """What ``keep`` has stored under the same description; None when there is nothing that can be read."""
        file = self._file(what)
        try:
            with np.load(file) as content:
                scores = scores_from_json(json.loads(str(content["scores"])))
                confusion, distances = (np.asarray(content[name], np.int64) for name in ("confusion", "distances"))
                return ClipScores(scores, confusion, distances, file)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def keep(
        self, what: dict[str, Any], scores: Scores, confusion: npt.NDArray[np.int64], distances: Sequence[int]
    ) -> ClipScores:
        """Store scores under that description."""
        by_frame = np.asarray(distances, np.int64)
        file = self._file(what)
        self._folder.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        with new.open("wb") as output:
            np.savez_compressed(
                output,
                confusion=confusion,
                distances=by_frame,
                scores=json.dumps(scores_to_json(scores)),
                described=self._text(what),
            )
        os.replace(new, file)
        return ClipScores(scores, confusion, by_frame, file)

    def _file(self, what: dict[str, Any]) -> Path:
        return self._folder / f"{hashlib.sha256(self._text(what).encode()).hexdigest()[:16]}.npz"

    def _text(self, what: dict[str, Any]) -> str:
        return json.dumps({**what, "versions": self._versions}, sort_keys=True)
