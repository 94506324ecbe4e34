"""Scores a model on the labelled frames of one split, as a stream, frame by frame, and with the window kept.

``python -m tdnet_ros.training.score --data FOLDER --split val`` prints mIoU and IoU by class.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.streaming import DEFAULT_MODEL, ContinuityLimits, Segmenter
from tdnet_ros.training.datasets import LabelledFrame, read_labelled_frames
from tdnet_ros.video.frame import Frame

#: When the window is emptied: as the node does it by default, before every frame, never.
MODES = {
    "as a stream": ContinuityLimits(),
    "frame by frame": ContinuityLimits(max_gap_s=1e-9),
    "window kept over any gap": ContinuityLimits(max_gap_s=1e9),
}


def score(segmenter: Segmenter, frames: Iterable[LabelledFrame], limits: ContinuityLimits) -> ConfusionMatrix:
    """Segment the frames of one drive in order, as a stream with these limits."""
    matrix = ConfusionMatrix(len(segmenter.labels))
    stream = segmenter.stream(limits)
    for labelled in frames:
        frame = Frame(labelled.image, round(labelled.timestamp_s * 1e9), source=labelled.sequence)
        matrix.add(labelled.labels, stream.step(frame).mask)
    return matrix


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with sequences.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--weights", help="default: the weights that ship with the model")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    try:
        segmenter = Segmenter(arguments.model, arguments.weights, arguments.device)
        frames = read_labelled_frames(arguments.data / "sequences.csv", arguments.split, len(segmenter.labels))
    except TdnetRosError as error:
        sys.stderr.write(f"score: error: {error}\n")
        return 1
    names = segmenter.labels.names
    sys.stdout.write(f"{len(frames)} frames of '{arguments.split}', mIoU and IoU in %\n")
    sys.stdout.write(" " * 24 + "   mIoU " + " ".join(f"{name[:8]:>8}" for name in names) + "\n")
    for title, limits in MODES.items():
        matrix = score(segmenter, frames, limits)
        values = " ".join(f"{100 * value:8.1f}" for value in matrix.iou())
        sys.stdout.write(f"{title:<24}{100 * matrix.miou():7.2f} {values}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
