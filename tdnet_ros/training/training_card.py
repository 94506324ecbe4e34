"""The last thing of a training: its weights as safetensors, and a card beside them that says what they are."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import yaml

from tdnet_ros import __version__
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.training.configuration import TrainingConfiguration
from tdnet_ros.training.trainer import Trainer

_CARD = """# {model}

| | |
|---|---|
| file | `{model}.safetensors`, half precision, sha256 `{sha256}` |
| classes | {classes} |
| terms | {terms} |
| data | {data} |
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
    """Write ``MODEL.safetensors`` and ``MODEL.md`` to the training's folder; the path of the weights."""
    configuration, info = trainer.configuration, trainer.network.info
    weights = trainer.output / f"{info.name}.safetensors"
    terms = configuration.terms or "not stated: those of the data that it was trained on"
    save_checkpoint(weights, trainer.published(), to_metadata(info, terms=terms, version=__version__))
    selection = "none: the last weights"
    if trainer.selection:
        name = configuration.data.sequences.selection
        selection = f"best of the last stage on {name} as a stream at its own rate: mIoU {100 * trainer.best:.2f} %"
    card = _CARD.format(
        model=info.name,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        classes=", ".join(info.labels.names),
        terms=terms,
        data=_data(configuration, trainer),
        version=__version__,
        commit=_commit(),
        processes=trainer.processes.count,
        device=trainer.processes.device.type,
        done=trainer.done,
        total=trainer.total,
        selection=selection,
        recipe=recipe_text(configuration),
    )
    weights.with_suffix(".md").write_text(card, encoding="utf-8")
    return weights


def recipe_text(configuration: TrainingConfiguration) -> str:
    """The configuration as yaml, with the names of files alone: where they lay is nobody's business."""
    content = json.loads(json.dumps(dataclasses.asdict(configuration)))
    for part, key in ((content, "backbone"), (content, "start"), (content["data"]["sequences"], "index")):
        part[key] = Path(part[key]).name
    for stage in content["stages"]:
        stage["teacher_weights"] = Path(stage["teacher_weights"]).name
    return str(yaml.safe_dump(content, sort_keys=False))


def _data(configuration: TrainingConfiguration, trainer: Trainer) -> str:
    names = sorted(set(trainer.clips.store.sequences))
    return f"{len(trainer.clips.store.sequences)} labelled frames of {', '.join(names)}"


def _commit() -> str:
    """The checkout's commit, where the package runs from one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
