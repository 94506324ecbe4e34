"""Motion to the keyframe: how far it is off on a clip where it is known, and what a frame of it costs, in turn.

Times are processor time of one thread, so that others on the machine count for little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import machine
from benchmarks.analytic_clip import DriveClip, encode
from tdnet_ros.video.encoding import FOLLOWABLE
from tdnet_ros.video.file_packets import file_packets
from tdnet_ros.video.frame import CELL_PX, Frame, MotionField
from tdnet_ros.video.motion import CodecMotion, MotionSource, ZeroMotion
from tdnet_ros.video.optical_flow import FlowMotion
from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder, VideoPacket

_GOP = 12
_ENCODERS = {
    "vectors, medium": FOLLOWABLE,
    "vectors, veryfast": {**FOLLOWABLE, "preset": "veryfast"},
    "vectors, ultrafast": {**FOLLOWABLE, "preset": "ultrafast"},
}
_DECODE, _VECTORS, _FLOW = "decode alone", "decode, vectors, chain", "flow, chain (decoded before)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    cv2.setNumThreads(1)
    watch = machine.begin(options)
    results = []
    for width, height in options.sizes:
        clip = DriveClip(height, width, seed=1)
        pictures = [clip.picture(index) for index in range(_GOP)]
        errors = _errors(clip, pictures)
        packets = _packets(pictures, FOLLOWABLE)
        times = watch.measure(partial(_times, packets, options.rounds))
        results.append({"size": [width, height], "errors": errors, "times": times})
        _print(results[-1])
    videos = {str(path.name): _video(path, options.frames) for path in options.video}
    _print_videos(videos)
    machine.write_json(options.json, {**watch.circumstances, "results": results, "videos": videos})
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.motion", description=__doc__)
    parser.add_argument("--sizes", type=machine.size_of, nargs="+", default=[(480, 360), (960, 720)], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=20, help=f"passes over the {_GOP} frames")
    parser.add_argument("--video", type=Path, nargs="*", default=[], metavar="FILE", help="of real cameras, too")
    parser.add_argument("--frames", type=int, default=120, help="at most, of each video")
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _packets(pictures: list[np.ndarray], encoder: dict[str, str]) -> list[VideoPacket]:
    return [
        VideoPacket(index, index, "", "h264", data, index) for index, data in enumerate(encode(pictures, **encoder))
    ]


def _frame(picture: DecodedPicture) -> Frame:
    return Frame(picture.rgb(), motion=picture.motion)


def _errors(clip: DriveClip, pictures: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Endpoint error by source: one frame from the keyframe, and eleven."""
    streams: dict[str, tuple[MotionSource, list[Frame]]] = {}
    for name, encoder in _ENCODERS.items():
        decoder = PacketDecoder(vectors=True)
        frames = [_frame(found) for packet in _packets(pictures, encoder) for found in decoder.decode(packet)]
        streams[name] = (CodecMotion(ZeroMotion()), frames)
    streams["flow, raw pictures"] = (FlowMotion(), [Frame(picture) for picture in pictures])
    streams["flow, medium's pictures"] = (FlowMotion(), streams["vectors, medium"][1])
    streams["zero"] = (ZeroMotion(), streams["vectors, medium"][1])
    errors = {}
    for name, (source, frames) in streams.items():
        fields = follow(source, frames)
        near, far = (_endpoint_errors(clip, fields[index], index) for index in (1, _GOP - 1))
        errors[name] = {
            "near_mean_px": near.mean(),
            "near_median_px": np.median(near),
            "far_mean_px": far.mean(),
            "far_median_px": np.median(far),
            "far_unusable_share": fields[-1].unusable_share,
        }
    return {name: {key: round(float(value), 3) for key, value in row.items()} for name, row in errors.items()}


def follow(source: MotionSource, frames: list[Frame]) -> list[MotionField]:
    """Motion of each frame to the first."""
    fields = []
    for frame in frames:
        fields.append(source.advance(frame))
        if fields[-1].broken:
            source.make_keyframe()
    return fields


def _endpoint_errors(clip: DriveClip, field: MotionField, index: int) -> np.ndarray:
    """At every pixel whose place was to be seen in frame 0."""
    known, seen = clip.motion(index, 0)
    rows, columns = field.valid.shape
    full = cv2.resize(field.displacement_px, (columns * CELL_PX, rows * CELL_PX), interpolation=cv2.INTER_LINEAR)
    difference = full[: clip.height, : clip.width] - known
    return np.asarray(np.hypot(difference[..., 0], difference[..., 1])[seen])


def _times(packets: list[VideoPacket], rounds: int) -> dict[str, Any]:
    """Milliseconds of each way, taken in turn frame by frame."""
    plain, decoder, codec, flow = PacketDecoder(), PacketDecoder(vectors=True), CodecMotion(ZeroMotion()), FlowMotion()
    times_ms: dict[str, list[float]] = {_DECODE: [], _VECTORS: [], _FLOW: []}
    for number in range(rounds * len(packets)):
        packet = packets[number % len(packets)]
        packet = VideoPacket(number, number, "", "h264", packet.data)
        (picture,), plain_ms = _timed(lambda packet=packet: list(plain.decode(packet)))
        frame = Frame(picture.rgb())

        def with_vectors(packet: VideoPacket = packet, frame: Frame = frame) -> MotionField:
            (found,) = decoder.decode(packet)
            return codec.advance(Frame(frame.image, motion=found.motion))

        by_codec, codec_ms = _timed(with_vectors)
        by_flow, flow_ms = _timed(lambda frame=frame: flow.advance(frame))
        if by_codec.broken or by_flow.broken:
            codec.make_keyframe()
            flow.make_keyframe()
        elif number >= len(packets):  # the first group warms up
            for name, value in zip(times_ms, (plain_ms, codec_ms, flow_ms), strict=True):
                times_ms[name].append(value)
    added = np.subtract(times_ms[_VECTORS], times_ms[_DECODE])
    ways = {name: machine.percentiles(values) for name, values in {**times_ms, "vectors add": added}.items()}
    return {"ways": ways, "frames": len(added)}


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started_ns = time.process_time_ns()
    result = work()
    return result, 1e-6 * (time.process_time_ns() - started_ns)


def _video(path: Path, frames: int) -> dict[str, Any]:
    """How much of a real video has usable motion, from its vectors and measured, and how well each explains it."""
    decoder, codec, flow = PacketDecoder(vectors=True), CodecMotion(ZeroMotion()), FlowMotion()
    shares: dict[str, list[float]] = {"hop": [], "chain": [], "flow": []}
    left: dict[str, list[float]] = {"vectors": [], "flow": [], "nothing": []}
    reasons: list[str] = []
    previous, count = np.empty(0), 0
    for picture in islice((found for packet in file_packets(path) for found in decoder.decode(packet)), frames):
        frame, count = _frame(picture), count + 1
        before, previous = previous, cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        chained, measured = codec.advance(frame), flow.step(frame)
        if chained.broken:
            codec.make_keyframe()
            reasons.append(chained.broken.value)
            continue
        hop = picture.motion
        if hop is None:
            continue
        shares["hop"].append(hop.unusable_share)
        shares["chain"].append(chained.unusable_share)
        shares["flow"].append(measured.unusable_share)
        for name, displacement_px in (
            ("vectors", hop.displacement_px),
            ("flow", measured.displacement_px),
            ("nothing", np.zeros_like(hop.displacement_px)),
        ):
            left[name].append(_grey_difference(before, previous, displacement_px))
    return {
        "frames": count,
        "fault": decoder.fault,
        "lost": decoder.lost,
        "damaged": decoder.damaged,
        "keyframes": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "unusable_share": {name: machine.percentiles(values) for name, values in shares.items()},
        "grey_difference": {name: machine.percentiles(values) for name, values in left.items()},
    }


def _grey_difference(before: np.ndarray, grey: np.ndarray, displacement_px: np.ndarray) -> float:
    """Mean over the picture between each pixel and where the motion says that it was in the frame before, of 255."""
    height, width = grey.shape
    size = tuple(CELL_PX * side for side in displacement_px.shape[1::-1])
    place = cv2.resize(displacement_px, size, interpolation=cv2.INTER_LINEAR)[:height, :width]
    place = place + np.dstack(np.meshgrid(np.arange(width), np.arange(height)))
    found = cv2.remap(before, np.float32(place), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(cv2.absdiff(found, grey).mean())


def _print(result: dict[str, Any]) -> None:
    width, height = result["size"]
    print(f"{width}x{height}: endpoint error in px, mean (median)")
    print(f"  {'source':<26}{'1 frame':>16}{'11 frames':>18}{'unusable at 11':>16}")
    for name, row in result["errors"].items():
        near = f"{row['near_mean_px']:.2f} ({row['near_median_px']:.2f})"
        far = f"{row['far_mean_px']:.2f} ({row['far_median_px']:.2f})"
        print(f"  {name:<26}{near:>16}{far:>18}{row['far_unusable_share']:>16.1%}")
    print(f"{width}x{height}: processor ms a frame, {result['times']['frames']} frames")
    for name, row in result["times"]["ways"].items():
        print(f"  {name:<30} p50 {row['p50']:.2f}  p95 {row['p95']:.2f}  max {row['max']:.2f}")
    print()


def _print_videos(videos: dict[str, Any]) -> None:
    for name, row in videos.items():
        shares = {kind: f"{value['p50']:.0%} (p95 {value['p95']:.0%})" for kind, value in row["unusable_share"].items()}
        print(
            f"{name}: {row['frames']} frames, keyframes {row['keyframes']}, {row['fault'] or 'vectors can be followed'}"
        )
        print(f"  without usable motion: vectors {shares['hop']}, chained {shares['chain']}, flow {shares['flow']}")
        left = ", ".join(f"{source} {value['p50']:.2f}" for source, value in row["grey_difference"].items())
        print(f"  grey levels left unexplained a frame, median: {left}\n")


if __name__ == "__main__":
    machine.run(main)
