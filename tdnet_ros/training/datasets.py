"""Labelled frames and clips for training.

CamVid is labelled once a second, so its frames are no stream. A clip is made in two ways: the frame before is the
same picture under a small camera motion (what a stream at 15 Hz looks like to a static scene), or the labelled
frame one second earlier (a slow stream). Both have labels for every frame.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.labels import UNLABELLED

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledFrame:
    """RGB image (H, W, 3), labels (H, W) with UNLABELLED for void, and its place in a sequence."""

    image: Pixels
    labels: Pixels
    sequence: str
    number: int
    timestamp_s: float


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; one draw holds for all frames of a clip but for the small camera motion."""

    crop: tuple[int, int] = (288, 352)
    scale: tuple[float, float] = (0.6, 1.6)
    motion_zoom: float = 0.04
    motion_shift_px: float = 6.0
    slow_share: float = 0.3


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


class ClipSampler:
    """Draws random clips of two frames with labels, oldest first; deterministic by seed.

    A drive of n frames is drawn in proportion to n ** ``balance``: at 1 every frame is as likely as any other, at 0
    every drive is, and a long drive does not decide alone what the network learns.
    """

    def __init__(
        self, frames: list[LabelledFrame], augmentation: Augmentation, seed: int, balance: float = 1.0
    ) -> None:
        self.frames = frames
        self.augmentation = augmentation
        self.random = np.random.default_rng(seed)
        drives = Counter(frame.sequence for frame in frames)
        shares = np.array([drives[frame.sequence] ** (balance - 1.0) for frame in frames])
        self.probabilities = shares / shares.sum()
        # Position of the frame one label earlier in the same drive, or none across a gap.
        self.before = {
            i: i - 1
            for i in range(1, len(frames))
            if frames[i].sequence == frames[i - 1].sequence
            and 0 < frames[i].timestamp_s - frames[i - 1].timestamp_s < 1.5
        }

    def batch(self, size: int, length: int) -> tuple[Pixels, Pixels]:
        """Images (length, size, h, w, 3) RGB and labels (length, size, h, w); length is 1 or 2."""
        clips = [self._clip(length) for _ in range(size)]
        images = np.stack([np.stack([clip[t][0] for clip in clips]) for t in range(length)])
        labels = np.stack([np.stack([clip[t][1] for clip in clips]) for t in range(length)])
        return images, labels

    def _clip(self, length: int) -> list[tuple[Pixels, Pixels]]:
        index = int(self.random.choice(len(self.frames), p=self.probabilities))
        newest = self.frames[index]
        view = self._view(newest.image.shape[:2])
        lookup = self._photometry()
        clip = [self._render(newest, view, lookup)]
        if length == 2:
            if index in self.before and self.random.random() < self.augmentation.slow_share:
                older, older_view = self.frames[self.before[index]], view
            else:
                older, older_view = newest, self._camera_motion() @ view
            clip.insert(0, self._render(older, older_view, lookup))
        return clip

    def _view(self, size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """3x3 map from picture to crop: random scale, mirror and place."""
        (height, width), (rows, columns) = size, self.augmentation.crop
        scale = float(np.exp(self.random.uniform(*np.log(self.augmentation.scale))))
        flip = -1.0 if self.random.random() < 0.5 else 1.0
        slack_x, slack_y = width * scale - columns, height * scale - rows
        x = self.random.uniform(min(0.0, slack_x), max(0.0, slack_x))
        y = self.random.uniform(min(0.0, slack_y), max(0.0, slack_y))
        offset_x = -x if flip > 0 else width * scale - x
        return np.array([[flip * scale, 0, offset_x], [0, scale, -y], [0, 0, 1]])

    def _camera_motion(self) -> npt.NDArray[np.float64]:
        """3x3 map inside the crop: the older frame is seen from further back and a little to the side."""
        (rows, columns), a = self.augmentation.crop, self.augmentation
        zoom = 1 - abs(self.random.normal(0, a.motion_zoom / 2))
        dx, dy = self.random.normal(0, a.motion_shift_px / 2, 2)
        return np.array([[zoom, 0, (1 - zoom) * columns / 2 + dx], [0, zoom, (1 - zoom) * rows / 2 + dy], [0, 0, 1]])

    def _photometry(self) -> Pixels:
        """Lookup table (256, 3): gamma, gain, offset and a little colour cast."""
        random = self.random
        ramp = np.linspace(0, 1, 256)[:, None] ** np.exp(random.uniform(-0.3, 0.3))
        gain = random.uniform(0.75, 1.25) * random.uniform(0.94, 1.06, (1, 3))
        levels = np.clip(ramp * gain * 255 + random.uniform(-20, 20), 0, 255)
        return np.asarray(levels, np.uint8)

    def _render(self, frame: LabelledFrame, view: npt.NDArray[np.float64], lookup: Pixels) -> tuple[Pixels, Pixels]:
        rows, columns = self.augmentation.crop
        image = cv2.warpAffine(frame.image, view[:2], (columns, rows), flags=cv2.INTER_LINEAR)
        image = cv2.LUT(image, lookup[None])
        labels = cv2.warpAffine(
            frame.labels, view[:2], (columns, rows), flags=cv2.INTER_NEAREST, borderValue=UNLABELLED
        )
        return np.asarray(image, np.uint8), np.asarray(labels, np.uint8)
