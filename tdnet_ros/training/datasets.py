"""Labelled frames for training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.video.frame import MotionField

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledFrame:
    """RGB image (H, W, 3), labels (H, W) with UNLABELLED for void, and its place in a sequence.

    ``motion`` leads to the frame before, where the frame was decoded from a stream.
    """

    image: Pixels
    labels: Pixels
    sequence: str
    number: int
    timestamp_s: float
    motion: MotionField | None = None


def read_labelled_frames(index: Path, split: str, classes: int) -> list[LabelledFrame]:
    """Frames of one split of a ``sequences.csv``, in order; the ids ``classes`` (void) and 255 are unlabelled.

    Raises SourceError when the index is missing, damaged or lists no frame of the split, and for pictures that cannot
    be read or hold other ids.
    """
    if not index.is_file():
        raise SourceError(f"label index is '{index}', expected an existing sequences.csv")
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == split]
        frames = [_read_frame(index, row, classes) for row in rows]
    except (KeyError, TypeError, ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise SourceError(
            f"label index '{index}' cannot be read, expected columns split, sequence, frame, timestamp_s, image and "
            f"label: {error!r}"
        ) from error
    if not frames:
        raise SourceError(f"{index}: no frame of split '{split}'")
    return frames


def _read_frame(index: Path, row: dict[str, str], classes: int) -> LabelledFrame:
    image = cv2.imread(str(index.parent / row["image"]), cv2.IMREAD_COLOR)
    labels = cv2.imread(str(index.parent / row["label"]), cv2.IMREAD_UNCHANGED)
    if image is None or labels is None:
        raise SourceError(f"{index}: cannot read {row['image']} or {row['label']}")
    if labels.ndim != 2 or labels.dtype != np.uint8:
        channels = labels.shape[2] if labels.ndim == 3 else 1
        raise SourceError(f"{index}: {row['label']} has {channels} channels of {labels.dtype}, expected ids in 8 bits")
    known = (labels <= classes) | (labels == UNLABELLED)
    if not known.all():
        raise SourceError(
            f"{index}: {row['label']} has label {labels[~known].max()}, expected 0..{classes - 1}, or {classes} or "
            f"{UNLABELLED} for unlabelled"
        )
    ids = np.where(labels < classes, labels, np.uint8(UNLABELLED)).astype(np.uint8)
    rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    return LabelledFrame(rgb, ids, row["sequence"], int(row["frame"]), float(row["timestamp_s"]))


def class_shares(frames: Sequence[LabelledFrame], classes: int) -> npt.NDArray[np.float64]:
    """Share of each class in the labelled pixels of the frames: (classes,), sums to one.

    Raises SourceError when not one pixel is labelled.
    """
    counts = sum(np.bincount(frame.labels.ravel(), minlength=UNLABELLED + 1) for frame in frames)
    labelled = np.asarray(counts, np.float64)[:classes]
    if not labelled.sum():
        raise SourceError(f"data has no labelled pixel in {len(frames)} frames, expected ids 0..{classes - 1}")
    return np.asarray(labelled / labelled.sum(), np.float64)
