"""What stands in a table of accuracy: clips, rows, what they are compared with, and peers that others measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.networks import AUTO
from tdnet_ros.streaming import SCORE_MEMORY, StreamSettings
from tdnet_ros.streaming.models import choose_weights
from tdnet_ros.streaming.settings import MOTIONS
from tdnet_ros.yaml_settings import parse_settings, read_yaml

#: In a row's ``weights``: those that ship with the model.
SHIPPED = "shipped"
#: In a row's ``runs``: as the node does it, or with an empty window before every frame.
STREAM, FRAME_BY_FRAME = "stream", "frame by frame"


@dataclass(frozen=True)
class ClipSettings:
    """Frames of one sequence of a ``sequences.csv``. ``block_frames``: so many lie in about one second."""

    name: str
    index: str
    split: str
    sequence: str = ""
    block_frames: int = 1


@dataclass(frozen=True)
class RowSettings:
    """One network: ``weights`` is a file, an export, the name of weights that ship or ``shipped`` for the model's own.

    ``input_height`` 0 is that of the weights, ``score_memory`` is the stream's
    (``tdnet_ros.streaming.score_memory``); ``keyframe_interval``, ``low_resolution`` and ``motion`` are those of
    ``tdnet_ros.streaming.StreamSettings``. ``by_distance``: its mIoU by distance from the keyframe, too, which takes a
    run for each distance. ``against`` names the row that it is compared with, '' the table's baseline. Rows of one
    ``curve`` are one line in the chart.
    """

    name: str
    model: str = AUTO
    weights: str = SHIPPED
    runs: str = STREAM
    input_height: int = 0
    score_memory: float = SCORE_MEMORY
    keyframe_interval: int = 0
    low_resolution: float = 0.0
    motion: str = MOTIONS[0]
    by_distance: bool = False
    curve: str = ""
    against: str = ""
    note: str = ""

    @property
    def weight_file(self) -> Path:
        """The file or folder, whether it exists or not. Raises CheckpointError for a model that ships without."""
        chosen = choose_weights(self.model, None if self.weights == SHIPPED else self.weights)
        if not isinstance(chosen, str | Path):
            raise CheckpointError(f"weights is '{self.weights}', expected one file: tdnet-ros convert makes one of two")
        return Path(chosen)

    @property
    def stream_settings(self) -> StreamSettings:
        """How its streams run. Raises ConfigurationError for values out of range."""
        return StreamSettings(self.keyframe_interval, self.low_resolution, self.motion)

    @property
    def is_trained(self) -> bool:
        """Whether there are weights."""
        return self.weight_file.exists()


@dataclass(frozen=True)
class BootstrapSettings:
    """Resamples of the bootstrap over frames, and their seed."""

    resamples: int = 2000
    seed: int = 1


@dataclass(frozen=True)
class TimingSettings:
    """Steps of each row on frames of ``size`` (height, width), in turn; ``rounds`` of them count."""

    size: tuple[int, int] = (360, 480)
    rounds: int = 40


@dataclass(frozen=True)
class PeerSettings:
    """A network as somebody else measured it: ``miou`` and ``flicker`` in %, ``tc`` and ``vc8`` from 0 to 1.

    ``miou`` is by clip, in their order; ``seen`` says of each clip whether the network was trained on it. Temporal
    measures are those of the first clip. ``ms``, the processor's time, and ``trained_on`` are texts.
    """

    name: str
    parameters_m: float = math.nan
    trained_on: str = ""
    miou: tuple[float, ...] = ()
    seen: tuple[bool, ...] = ()
    tc: float = math.nan
    vc8: float = math.nan
    flicker: float = math.nan
    ms: str = ""


@dataclass(frozen=True)
class PeersSettings:
    """Peers, and a sentence that says where their figures come from."""

    source: str = ""
    rows: tuple[PeerSettings, ...] = ()


@dataclass(frozen=True)
class AccuracySettings:
    """A whole table. ``baseline`` names the row that those without their own are compared with, '' the first."""

    clips: tuple[ClipSettings, ...]
    rows: tuple[RowSettings, ...]
    baseline: str = ""
    bootstrap: BootstrapSettings = field(default_factory=BootstrapSettings)
    timing: TimingSettings = field(default_factory=TimingSettings)
    peers: PeersSettings = field(default_factory=PeersSettings)

    def compared_with(self, row: RowSettings) -> str:
        """The name of the row that this one is compared with; it may be its own."""
        return row.against or self.baseline or self.rows[0].name


def read_accuracy_settings(path: Path) -> AccuracySettings:
    """Read a yaml file such as config/accuracy.yaml; ``$NAME`` stands for an environment variable.

    Raises ConfigurationError for a file that cannot be read, and for any field that is unknown, missing or wrong.
    """
    settings = parse_settings(AccuracySettings, read_yaml(path, "accuracy settings"), _check)
    for kind, names in (
        ("clips", [clip.name for clip in settings.clips]),
        ("rows", [row.name for row in settings.rows]),
    ):
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"{kind} are named {names}, expected at least one and no name twice")
    for row in settings.rows:
        _ = row.stream_settings  # its errors should not wait until the row's turn
    names = [row.name for row in settings.rows]
    named = {"baseline": settings.baseline} | {f"rows[{i}].against": row.against for i, row in enumerate(settings.rows)}
    for key, other in named.items():
        if other and other not in names:
            raise ConfigurationError(f"{key} is '{other}', expected one of {names}")
    for number, peer in enumerate(settings.peers.rows):
        for key, values in (("miou", peer.miou), ("seen", peer.seen)):
            if len(values) not in (0, len(settings.clips)):
                raise ConfigurationError(
                    f"peers.rows[{number}].{key} has {len(values)} values, expected one for each of "
                    f"{len(settings.clips)} clips"
                )
    return settings


_AT_LEAST_ONE = ("block_frames", "resamples", "rounds")


def _check(key: str, value: Any, name: str) -> None:
    if key == "runs" and value not in (STREAM, FRAME_BY_FRAME):
        raise ConfigurationError(f"{name} is '{value}', expected '{STREAM}' or '{FRAME_BY_FRAME}'")
    if key in _AT_LEAST_ONE and value < 1:
        raise ConfigurationError(f"{name} is {value}, expected at least 1")
    if key in ("input_height", "seed") and value < 0:
        raise ConfigurationError(f"{name} is {value}, expected 0 or more")
    if key == "size" and min(value) < 1:
        raise ConfigurationError(f"{name} is {list(value)}, expected [height, width]")
    if key == "name" and not value.strip():
        raise ConfigurationError(f"{name} is '{value}', expected a name")
