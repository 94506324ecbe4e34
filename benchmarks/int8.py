"""Quantises an export to int8 and says what that gains and costs: time, labels, accuracy.

python -m benchmarks.int8 EXPORT --data CAMVID -o FOLDER

EXPORT is a folder of ``tdnet-ros export`` in fp32, CAMVID a folder with sequences.csv. The ranges of the activations
come from frames of its split ``train``, the labels that are compared from ``val``. FOLDER is an export again.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.machine import describe
from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.networks.export import MANIFEST, read_manifest
from tdnet_ros.networks.network import StepPlan, image_size
from tdnet_ros.streaming import Segmenter
from tdnet_ros.streaming.runtime import Preprocessor
from tdnet_ros.training.datasets import LabelledFrame, read_labelled_frames
from tdnet_ros.video.frame import Frame

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
Inputs = dict[str, npt.NDArray[Any]]


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of one step, one after the other, as onnxruntime's calibration asks for them."""

    def __init__(self, samples: Sequence[Inputs]) -> None:
        self._left = iter(samples)

    def get_next(self) -> Inputs | None:
        return next(self._left, None)


def calibration_samples(folder: Path, frames: Sequence[LabelledFrame], count: int) -> dict[StepPlan, list[Inputs]]:
    """``count`` inputs of every step of an export, met in streams over frames that are spread over the whole set."""
    segmenter = Segmenter(weights=folder)
    network, names = segmenter.network, {step.plan: step.inputs for step in read_manifest(folder).steps}
    preprocess = Preprocessor(network.info, segmenter.runtime)
    samples: dict[StepPlan, list[Inputs]] = {plan: [] for plan in names}
    subnetworks = network.info.subnetworks
    starts = np.linspace(0, len(frames) - 2 * subnetworks, count).astype(int)
    with torch.inference_mode():
        for start in starts:
            for first in range(subnetworks):
                state = network.initial_state()
                for index in range(2 * subnetworks - 1):
                    image = preprocess(Frame(frames[start + index].image, stamp_ns=index + 1), network.info.input_size)
                    plan = network.plan(state, (first + index) % subnetworks)
                    tensors = (image, *network.cached(state, plan))
                    _, *kept = segmenter.engine.compute(plan, *tensors)
                    state = network.remember(state, plan, image_size(image), tuple(kept))
                    if len(samples[plan]) < count:
                        arrays = (np.ascontiguousarray(x.numpy()) for x in tensors)
                        pairs = zip(names[plan], arrays, strict=True)
                        samples[plan].append({tensor.name: array.copy() for tensor, array in pairs})
    return samples


def quantise(source: Path, target: Path, samples: dict[StepPlan, list[Inputs]], method: str, float_nodes: int) -> None:
    """Write an export with 8 bit weights, by channel, and activations; the last ``float_nodes`` convolutions stay."""
    target.mkdir(parents=True, exist_ok=True)
    for step in read_manifest(source).steps:
        with tempfile.TemporaryDirectory() as scratch:
            prepared = Path(scratch) / step.file
            quant_pre_process(str(source / step.file), str(prepared), skip_symbolic_shape=True)
            convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
            quantize_static(
                str(prepared),
                str(target / step.file),
                Samples(samples[step.plan]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "Add", "Relu", "Clip", "MatMul"],
                nodes_to_exclude=convolutions[len(convolutions) - float_nodes :],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=METHODS[method],
            )
        print(f"written: {target / step.file}", flush=True)
    shutil.copy(source / MANIFEST, target / MANIFEST)


def masks(segmenter: Segmenter, frames: Sequence[LabelledFrame]) -> tuple[list[npt.NDArray[np.uint8]], list[float]]:
    """Masks of a stream of those frames and the milliseconds that the network took for each."""
    segmenter.warm_up(*frames[0].image.shape[:2])
    stream = segmenter.stream()
    results = [stream.step(Frame(frame.image, round(frame.timestamp_s * 1e9))) for frame in frames]
    return [result.mask for result in results], [result.times.network_ms for result in results]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("export", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--calibration-frames", type=int, default=64)
    parser.add_argument("--method", choices=list(METHODS), default="minmax")
    parser.add_argument("--float-convolutions", type=int, default=0, help="so many at the end stay fp32")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    index = arguments.data / "sequences.csv"
    try:
        labels = read_manifest(arguments.export).info.labels
        train, frames = (read_labelled_frames(index, split, len(labels)) for split in ("train", "val"))
        started = time.perf_counter()
        samples = calibration_samples(arguments.export, train, arguments.calibration_frames)
        quantise(arguments.export, arguments.output, samples, arguments.method, arguments.float_convolutions)
        print(
            f"calibrated and quantised in {time.perf_counter() - started:.0f} s; {describe()['processor']}", flush=True
        )
        for threads in arguments.threads:
            found = {}
            for name, folder in (("fp32", arguments.export), ("int8", arguments.output)):
                segmenter = Segmenter(weights=folder, device="cpu", threads=threads)
                found[name], times = masks(segmenter, frames)
                matrix = ConfusionMatrix(len(labels))
                for frame, mask in zip(frames, found[name], strict=True):
                    matrix.add(frame.labels, mask)
                agreeing = np.mean([np.mean(a == b) for a, b in zip(found["fp32"], found[name], strict=True)])
                print(
                    f"{name}, {threads} threads: step median {statistics.median(times):.1f} ms, "
                    f"mIoU {100 * matrix.miou():.2f}, labels equal to fp32's on {100 * agreeing:.2f} % of pixels",
                    flush=True,
                )
    except TdnetRosError as error:
        sys.stderr.write(f"int8: error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
