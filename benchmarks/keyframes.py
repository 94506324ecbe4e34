"""What streams make of real videos: how much of a frame is found in those before it, cuts, and keyframes by reason.

Nothing is segmented and nothing timed, so the machine may be busy. Splices are those between the given videos and two
rendered streets.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tdnet_ros.streaming.alternation import UNUSABLE_SHARE, AlternationSchedule
from tdnet_ros.training.street import Street
from tdnet_ros.video.dense_flow import DenseFlow
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.motion import CodecMotion, MotionSource
from tdnet_ros.video.optical_flow import FlowMotion
from tdnet_ros.video.source_frames import moving_frames
from tdnet_ros.video.sources import VideoFile

_GAPS = (1, 3, 6)
_PAIRS = 100
_STREET_SEEDS, _STREET_FRAMES = (11, 12), 20
_SIZE = (480, 360)  # (width, height) of the spliced frames
_SPLICES = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Print three tables; 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.keyframes", description=__doc__)
    parser.add_argument("--video", type=Path, nargs="+", required=True, metavar="FILE")
    parser.add_argument("--frames", type=int, default=250, help="at most, of each video")
    parser.add_argument("--interval", type=int, default=12, help="of keyframes")
    parser.add_argument("--unusable", type=float, nargs="+", default=[0.6, UNUSABLE_SHARE], help="limits to compare")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    scenes = {
        path.name: list(itertools.islice(moving_frames(VideoFile(path)), options.frames)) for path in options.video
    }
    print(f"share of a frame that is not found in the one so many before ({_GAPS}): median, largest")
    streets = {f"street {seed}": _street(seed) for seed in _STREET_SEEDS}
    for name, frames in {**scenes, **streets}.items():
        print(f"  {name:<34}" + "".join(f"{_share(frames, gap):>14}" for gap in _GAPS))
    print(f"share after a cut between two of them: smallest, median of {_SPLICES}")
    for (one, before), (other, after) in itertools.permutations({**scenes, **streets}.items(), 2):
        print(f"  {one:<34}{other:<34}{_splice(before, after)}")
    print(f"keyframes at interval {options.interval}, by limit of unusable motion and by what made them due")
    for name, frames in scenes.items():
        for limit, (how, source) in itertools.product(options.unusable, _sources().items()):
            reasons = _keyframes(frames, source, AlternationSchedule(2, options.interval, unusable_share=limit))
            print(f"  {name:<34}{limit:5.2f} {how:<8}{reasons.total():4} of {len(frames)}: {dict(reasons)}")
    return 0


def _street(seed: int) -> list[Frame]:
    return [Frame(each.image) for each in itertools.islice(Street(seed, 180, 240), _STREET_FRAMES)]


def _sources() -> dict[str, MotionSource]:
    return {"vectors": CodecMotion(FlowMotion()), "flow": FlowMotion()}


def _share(frames: Sequence[Frame], gap: int) -> str:
    flow, pairs = DenseFlow(), list(zip(frames, frames[gap:], strict=False))
    chosen = pairs[:: max(1, len(pairs) // _PAIRS)]
    shares = [flow.between(flow.shrink(before), flow.shrink(after)).unusable_share for before, after in chosen]
    return f"{np.median(shares):.2f}, {max(shares):.2f}"


def _splice(before: Sequence[Frame], after: Sequence[Frame]) -> str:
    flow, random, shares = DenseFlow(), np.random.default_rng(0), []
    for _ in range(_SPLICES):
        pair = [
            Frame(np.asarray(cv2.resize(frames[random.integers(len(frames))].image, _SIZE), np.uint8))
            for frames in (before, after)
        ]
        shares.append(flow.between(flow.shrink(pair[0]), flow.shrink(pair[1])).unusable_share)
    return f"{min(shares):.2f}, {np.median(shares):.2f}"


def _keyframes(frames: Sequence[Frame], source: MotionSource, schedule: AlternationSchedule) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for frame in frames:
        plan = schedule.plan(source.advance(frame))
        schedule.advance(plan)
        if plan.keyframe:
            source.make_keyframe()
            reasons[plan.reason.partition(" in ")[0]] += 1
    return reasons


if __name__ == "__main__":
    sys.exit(main())
