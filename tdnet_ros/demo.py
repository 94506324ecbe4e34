"""The main job from end to end: a video as a camera, the node, a recorder, and what came out of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tdnet_ros.evaluation.replay import ReplaySettings, replay
from tdnet_ros.evaluation.replay_report import write_overlay, write_report
from tdnet_ros.video.sources import open_source

_CLIP_SECONDS, _CLIP_RATE_HZ = 10, 15
#: Of a street that no weights were trained on: the files in config/ name those that are.
_CLIP_SEED = 2021


def run_demo(settings: ReplaySettings, say: Callable[[str], None]) -> None:
    """Replay the source through the node and write everything that comes out to the output folder.

    Raises TdnetRosError, with the last lines of the process concerned, when something fails on the way.
    """
    # Here, because torch takes seconds to load and `tdnet-ros demo` should say at once what it misses.
    from tdnet_ros.networks import AUTO
    from tdnet_ros.streaming import model_info

    network = model_info(settings.model or AUTO, settings.weights or None)
    output = settings.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    # Opened here first: a wrong path should fail before three processes are up.
    source = open_source(settings.source, settings.rate_hz or None, settings.topic or None)
    width, height = source.size
    count = source.frame_count or "an unknown number of"
    say(f"{source.name}: {count} frames of {width}x{height} at {source.rate_hz:.2f} Hz")
    say(f"terms of the weights: {network.stated_terms}")
    result = replay(replace(settings, output=output, source=settings.source.resolve()), say)
    facts = {"source": source.name, "width": width, "height": height, "model": network.name}
    table = write_report(result, output, facts)
    say("drawing the overlay")
    write_overlay(source, result, network.labels, output)
    say(f"\n{table}\n")
    say(f"bag of masks and latencies  {result.bag}")
    say(f"overlay video               {output / 'overlay.mp4'}")
    say(f"overlay picture             {output / 'overlay.png'}")
    say(f"these numbers               {output / 'latency.json'}")


def street_clip(output: Path, say: Callable[[str], None]) -> Path:
    """A street rendered by our own code; kept in the output folder for the next time."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"street_{_CLIP_SEED}_{_CLIP_SECONDS}s.mp4"
    if not path.exists():
        from tdnet_ros.training.street import write_clip

        say(f"rendering {_CLIP_SECONDS} s of a street (once; give --video to use your own)")
        partial = path.with_suffix(".partial.mp4")
        write_clip(partial, round(_CLIP_SECONDS * _CLIP_RATE_HZ), seed=_CLIP_SEED, rate_hz=_CLIP_RATE_HZ)
        shutil.move(partial, path)
    return path
