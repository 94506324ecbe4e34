"""The last thing of a training: its weights as safetensors, and a card beside them that says what they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from tdnet_ros import __version__
from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.training.configuration import TrainingConfiguration
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.frame_store import STREET
from tdnet_ros.training.trainer import Trainer

_CARD = """# {title}

| | |
|---|---|
| file | `{title}.safetensors`, weights of `{model}` in half precision, sha256 `{sha256}` |
| classes | {classes} |
| terms | {terms} |
| data | {data} |
| start | {start} |
| made by | tdnet_ros {version}, commit {commit}, on {processes} x {device}, {done} of {total} steps |
| selection | {selection} |

The weights are an exponential moving average. No other accuracy has been measured by the training: see `tdnet-ros
evaluate`.

## Recipe

`tdnet-ros train` with

```yaml
{recipe}```
"""


def publish(trainer: Trainer) -> Path:
    """Write ``MODEL.safetensors`` and ``MODEL.md``, or with a name ``MODEL_NAME``; the path of the weights.

    Raises CheckpointError when one of them cannot be written.
    """
    configuration, info = trainer.configuration, trainer.network.info
    title = f"{info.name}_{configuration.name}" if configuration.name else info.name
    weights = trainer.output / f"{title}.safetensors"
    terms = configuration.terms or "not stated: those of the data that it was trained on"
    save_checkpoint(weights, trainer.published(), to_metadata(info, terms=terms, version=__version__))
    selection = "none: the last weights"
    if trainer.selection:
        selection = (
            f"best of the last stage on {_sequences(trainer.selection)}, each as a stream at its own rate: "
            f"mIoU {100 * trainer.best:.2f} %"
        )
    card = _CARD.format(
        title=title,
        model=info.name,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        classes=", ".join(info.labels.names),
        terms=terms,
        data=_sequences(trainer.frames),
        start=_start(configuration),
        version=__version__,
        commit=_commit(),
        processes=trainer.processes.count,
        device=trainer.processes.device.type,
        done=trainer.done,
        total=trainer.total,
        selection=selection,
        recipe=recipe_text(configuration),
    )
    path = weights.with_suffix(".md")
    try:
        path.write_text(card, encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"card '{path}' cannot be written: {error}") from error
    return weights


def recipe_text(configuration: TrainingConfiguration) -> str:
    """The configuration as yaml, with the names of files alone: where they lay is nobody's business."""
    content = json.loads(json.dumps(dataclasses.asdict(configuration)))
    for part, key in ((content, "backbone"), (content, "start"), (content["data"]["sequences"], "index")):
        part[key] = Path(part[key]).name
    for stage in content["stages"]:
        stage["teacher_weights"] = Path(stage["teacher_weights"]).name
    return str(yaml.safe_dump(content, sort_keys=False))


def _sequences(frames: Sequence[LabelledFrame]) -> str:
    """How many labelled frames of which sequences; rendered streets by their seeds."""
    names = sorted({frame.sequence for frame in frames if not frame.sequence.startswith(STREET)})
    seeds = sorted({int(frame.sequence.split("-")[1]) for frame in frames if frame.sequence.startswith(STREET)})
    if seeds:
        names.append("rendered streets (tdnet_ros.training.street) of the seeds " + ", ".join(map(str, seeds)))
    return f"{len(frames)} labelled frames of {', '.join(names)}"


def _start(configuration: TrainingConfiguration) -> str:
    if configuration.start:
        return f"`{Path(configuration.start).name}`"
    return f"ImageNet weights `{Path(configuration.backbone).name}`" if configuration.backbone else "fresh weights"


def _commit() -> str:
    """The checkout's commit, where the package runs from one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
