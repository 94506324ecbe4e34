"""BDNet's ablation in the shape of the poster's: mIoU by distance from the keyframe, of the trainings of
config/ablation_bdnet, on CamVid's dense clip and on rendered streets that no training saw.

Every labelled frame is segmented at every distance 0..4, from the keyframe so many frames before it, along the motion
of the frames between, added up as a stream does. So the same frames are scored at every distance; those are left out
whose way back meets an I-frame, where a stream has a keyframe anyway. Masks are scored on labels at their full size.
Intervals are of the mIoU over all distances, over blocks of consecutive frames (tdnet_ros/evaluation/bootstrap.py).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks import machine
from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bootstrap import draw_frames, interval, resampled_miou
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.networks import SegmentationNetwork, load_network
from tdnet_ros.training.compression import compress_frames
from tdnet_ros.training.configuration import CompressionSettings, StreetSettings
from tdnet_ros.training.datasets import LabelledFrame, read_labelled_frames
from tdnet_ros.training.frame_size import resize_image
from tdnet_ros.training.frame_store import render_streets
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.video.file_packets import file_packets
from tdnet_ros.video.frame import Break, Frame, MotionField
from tdnet_ros.video.motion import MotionChain
from tdnet_ros.video.optical_flow import FlowMotion
from tdnet_ros.video.packet_decoder import PacketDecoder

INTERVAL = 5
_BLOCK, _RESAMPLES, _SEED = 12, 1000, 1
_STREETS = StreetSettings(seeds=(2001, 2002, 2003), frames=36)
_CODED = CompressionSettings(crf=(23, 23), gop=12)
_MODEL = "bdnet_mnv2"


class Row(NamedTuple):
    """One training: its folder, which motion it runs with ('' for keyframes alone), the row that it is compared with,
    and the poster's DL-50 figure.

    Two rows are not in the poster: what motion does to weights that were not trained for it, and losses of less weight.
    """

    title: str
    folder: str
    motion: str
    against: str
    poster: float | None


_SINGLE, _FLOW, _MV, _BAS, _PW = (
    "single-frame network",
    "+ flow (DFF)",
    "+ MV",
    "+ MV + BAS",
    "+ MV + BAS + D_pw",
)
ROWS = (
    Row(_SINGLE, "single", "", "", 69.7),
    Row("the same weights, moved by MV", "single", "vectors", _SINGLE, None),
    Row(_FLOW, "flow", "flow", _SINGLE, 67.4),
    Row(_MV, "mv", "vectors", _FLOW, 68.4),
    Row(_BAS, "mv_bas", "vectors", _MV, 69.1),
    Row(_PW, "mv_bas_pw", "vectors", _BAS, 69.4),
    Row(f"{_PW} + D_inn", "mv_bas_pw_inn", "vectors", _PW, 69.7),
    Row("all three, a fifth of their weights", "fifth", "vectors", _MV, None),
)


class Clip(NamedTuple):
    """Frames of one stream that belong together, each with its motion to the frame before, by source of motion."""

    frames: list[LabelledFrame]
    motion: dict[str, list[MotionField]]

    def scored(self) -> list[int]:
        """Frames with a path of INTERVAL - 1 frames back."""
        paths = [field.broken is None for field in self.motion["vectors"]]
        return [t for t in range(INTERVAL - 1, len(paths)) if all(paths[t - INTERVAL + 2 : t + 1])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Score and report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.propagation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of the trainings' outputs")
    parser.add_argument("--data", type=Path, default=os.environ.get("TDNET_ROS_DATA", "data"), help="see docs")
    parser.add_argument("--size", type=machine.size_of, default=(240, 180), metavar="WxH", help="that networks see")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args(arguments)
    sets = {"CamVid val clip": [_camvid(options.data)], "streets": _streets()}
    results = []
    for name, clips in sets.items():
        scored: dict[str, npt.NDArray[np.int64]] = {}
        for row in ROWS:
            weights = options.folder / row.folder / f"{_MODEL}.safetensors"
            if not weights.is_file():
                print(f"| {name} | {row.title} | not trained: there is no {weights} |", flush=True)
                continue
            network = load_network(_MODEL, weights)
            counts = np.concatenate([_confusion(network, clip, row.motion, options.size) for clip in clips])
            results.append(
                {"set": name, "row": row.title, "poster": row.poster, **_figures(counts, scored.get(row.against))}
            )
            scored[row.title] = counts
            _print(results[-1])
    machine.write_json(options.json, {"size": options.size, "results": results})
    return 0


def _camvid(data: Path) -> Clip:
    labelled = read_labelled_frames(data / "camvid" / "sequences.csv", "val", 11)
    decoder, pictures = PacketDecoder(vectors=True), []
    for packet in file_packets(data / "clip_0016E5_15hz.mp4"):
        pictures += decoder.decode(packet)
    if len(pictures) != len(labelled):
        raise SourceError(f"clip has {len(pictures)} pictures, expected {len(labelled)}, one for each labelled frame")
    return _clip([replace(f, image=p.rgb(), motion=p.motion) for f, p in zip(labelled, pictures, strict=True)])


def _streets() -> list[Clip]:
    frames = compress_frames(render_streets(_STREETS, _STREETS.seeds), _CODED, dense_gap_s=0.2, seed=_SEED)
    names = sorted({frame.sequence for frame in frames})
    return [_clip([frame for frame in frames if frame.sequence == name]) for name in names]


def _clip(frames: list[LabelledFrame]) -> Clip:
    height, width = frames[0].labels.shape
    none = MotionField.without_path(height, width, Break.START)
    flow = FlowMotion(cut_share=1.0)
    measured = [flow.step(Frame(frame.image)) for frame in frames]
    return Clip(frames, {"vectors": [frame.motion or none for frame in frames], "flow": measured})


@torch.inference_mode()
def _confusion(network: SegmentationNetwork, clip: Clip, motion: str, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """By scored frame and distance: (F, INTERVAL, C, C), with one distance where there is no motion."""
    width, height = size
    full = clip.frames[0].labels.shape
    images = [_image(network, frame, (height, width)) for frame in clip.frames]
    keyframes = [network.advance(image, network.initial_state()) for image in images]
    counts = []
    for t in clip.scored():
        by_distance = []
        for distance in range(INTERVAL if motion else 1):
            scores = keyframes[t].scores
            if distance:
                chain = MotionChain()
                for number in range(t - distance + 1, t + 1):
                    field = chain.follow(clip.motion[motion][number])
                told = _tensor(field, (width / full[1], height / full[0]))
                scores = network.advance(images[t], keyframes[t - distance].state, keyframe=False, motion=told).scores
            matrix = ConfusionMatrix(len(network.info.labels))
            matrix.add(clip.frames[t].labels, network.decode_mask(scores, (full[0], full[1])).mask[0].numpy())
            by_distance.append(matrix.counts)
        counts.append(by_distance)
    return np.array(counts, np.int64)


def _image(network: SegmentationNetwork, frame: LabelledFrame, size: tuple[int, int]) -> Tensor:
    pixels = torch.from_numpy(resize_image(frame.image, size)).permute(2, 0, 1)[None].float() / 255
    return normalise(pixels, network.info)


def _tensor(field: MotionField, scale: tuple[float, float]) -> Tensor:
    """(1, 3, h, w), in px of the network's image."""
    moved = field.displacement_px * np.array(scale, np.float32)
    return torch.from_numpy(np.concatenate([moved, field.valid[..., None]], 2, dtype=np.float32)).permute(2, 0, 1)[None]


def _figures(counts: npt.NDArray[np.int64], previous: npt.NDArray[np.int64] | None) -> dict[str, object]:
    draws = draw_frames(len(counts), _RESAMPLES, _SEED, _BLOCK)
    resampled = resampled_miou(counts.sum(1), draws)
    figures: dict[str, object] = {
        "frames": len(counts),
        "by_distance": [round(100 * _miou(counts[:, d].sum(0)), 2) for d in range(counts.shape[1])],
        "miou": round(100 * _miou(counts.sum((0, 1))), 2),
        "interval": [round(100 * value, 2) for value in interval(resampled)],
    }
    if previous is not None:
        before = resampled_miou(previous.sum(1), draws)
        figures["gain"] = round(100 * (_miou(counts.sum((0, 1))) - _miou(previous.sum((0, 1)))), 2)
        figures["gain_interval"] = [round(100 * value, 2) for value in interval(resampled - before)]
    return figures


def _miou(counts: npt.NDArray[np.int64]) -> float:
    matrix = ConfusionMatrix(len(counts))
    matrix.counts += counts
    return matrix.miou()


def _print(result: dict[str, object]) -> None:
    by_distance = result["by_distance"]
    assert isinstance(by_distance, list)
    cells = [f"{value:.1f}" for value in by_distance] + [""] * (INTERVAL - len(by_distance))
    gain = f"{result['gain']:+} {result['gain_interval']}" if "gain" in result else ""
    line = [
        result["set"],
        result["row"],
        *cells,
        f"{result['miou']} {result['interval']}",
        gain,
        result["poster"] or "",
    ]
    print("| " + " | ".join(map(str, line)) + " |", flush=True)


if __name__ == "__main__":
    machine.run(main)
