"""What the score memory does on rendered streets, whose labels and motion are exact: accuracy and flicker by weight.

Here its weight and the height of its flow pictures are chosen, away from the clips that accuracy is told of.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence

import cv2
import numpy as np

from benchmarks import machine
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.evaluation.stability import Flicker
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.streaming import Segmenter
from tdnet_ros.training.street import Street, StreetFrame
from tdnet_ros.video.dense_flow import DenseFlow
from tdnet_ros.video.frame import Frame


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steadiness", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2011, 2012, 2013, 2014], help="one street for each")
    parser.add_argument("--frames", type=int, default=24, help="of each street, at 15 Hz")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 0.5, 0.7, 0.8], help="of the score memory")
    parser.add_argument("--heights", type=int, nargs="+", default=[180, 360], help="of the flow's pictures, px")
    parser.add_argument("--size", type=machine.size_of, default=(480, 360), metavar="WxH")
    parser.add_argument("--model", default="auto")
    options = parser.parse_args(arguments)
    width, height = options.size
    streets = [list(itertools.islice(Street(seed, height, width), options.frames)) for seed in options.seeds]
    segmenters = {weight: Segmenter(options.model, device="cpu", score_memory=weight) for weight in options.weights}
    print(f"{len(streets)} streets of {options.frames} frames, {width}x{height}")
    for weight, flow_height in itertools.product(options.weights, options.heights):
        if weight or flow_height == options.heights[0]:
            miou, flicker, motion_ms = _measure(segmenters[weight], streets, flow_height)
            told = f"flow at {flow_height} px, {motion_ms:4.1f} ms" if weight else "no memory"
            print(f"weight {weight:.2f}, {told}: mIoU {100 * miou:.2f} %, flicker {100 * flicker:.2f} %")
    return 0


def _measure(
    segmenter: Segmenter, streets: Sequence[Sequence[StreetFrame]], flow_height: int
) -> tuple[float, float, float]:
    """mIoU and flicker of 0 to 1, and the median ms of a frame's flow in processor time."""
    matrix, flicker, times_ms = ConfusionMatrix(len(segmenter.labels)), Flicker(), []
    for street in streets:
        stream, before = segmenter.stream(), None
        stream.memory.flow = DenseFlow(flow_height)
        for frame in street:
            started = time.process_time()
            stream.memory.look(Frame(frame.image))
            times_ms.append(1e3 * (time.process_time() - started))
            mask = stream.step(Frame(frame.image, stamp_ns=1 + frame.stamp_ns)).mask
            matrix.add(frame.labels, mask)
            if before is not None:
                labels, masks = (_carry(frame, ids) for ids in before)
                flicker.add(labels, frame.labels, masks, mask)
            before = frame.labels, mask
    return matrix.miou(), flicker.value(), float(np.median(times_ms))


def _carry(frame: StreetFrame, before: np.ndarray) -> np.ndarray:
    """Ids (H, W) of the frame before where they are now, by the street's own motion."""
    rows, columns = np.indices(before.shape, np.float32)
    x, y = columns + frame.motion[..., 0], rows + frame.motion[..., 1]
    moved = cv2.remap(before, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
    return np.where(frame.valid, moved, UNLABELLED).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
