"""What a training is told: one dataclass per part, read from yaml. Unknown keys are errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.yaml_settings import parse_settings, read_extended


@dataclass(frozen=True)
class SequencesSettings:
    """Labelled frames of a ``sequences.csv``; the sequence ``selection`` is held out, '' holds none out."""

    index: str = ""
    split: str = "train"
    selection: str = "0006R0"


@dataclass(frozen=True)
class StreetSettings:
    """Rendered streets: for each seed ``runs`` sequences of ``frames`` frames, ``run_gap_s`` apart in one drive.

    The streets of ``selection_seeds`` are held out.
    """

    seeds: tuple[int, ...] = ()
    selection_seeds: tuple[int, ...] = ()
    frames: int = 60
    runs: int = 1
    run_gap_s: float = 10.0
    height: int = 360
    width: int = 480
    rate_hz: float = 15.0


@dataclass(frozen=True)
class CompressionSettings:
    """Streams are encoded as H.264 and decoded again: see ``compress_frames``.

    ``crf`` is the range of x264's quality, [best, worst] of 0 to 51, [] leaves frames as they are; ``gop`` is the
    distance of keyframes.
    """

    crf: tuple[int, ...] = ()
    gop: int = 12


@dataclass(frozen=True)
class DataSettings:
    """Sources of frames; at least one of them has to give some.

    A drive of n frames is drawn in proportion to n ** ``drive_balance``: at 1 every frame is as likely as any other, at
    0 every drive is. Where ``street_share`` is above 0 so much of the clips comes from rendered streets, whatever their
    number of frames.
    """

    sequences: SequencesSettings = field(default_factory=SequencesSettings)
    street: StreetSettings = field(default_factory=StreetSettings)
    compression: CompressionSettings = field(default_factory=CompressionSettings)
    drive_balance: float = 0.5
    street_share: float = 0.0


@dataclass(frozen=True)
class AugmentationSettings:
    """Ranges of the random changes. One draw holds for a clip, but for the small camera motion between its frames.

    ``noise`` is the largest standard deviation, in steps of 255, of what is added to each pixel of each frame.
    Frames at most ``dense_gap_s`` apart are a stream as they are. Where frames are sparser, ``slow_share`` of the
    clips are frames at most ``slow_gap_s`` apart, the others one frame under small camera motions.
    """

    crop: tuple[int, int] = (288, 352)
    scale: tuple[float, float] = (0.6, 1.6)
    flip: bool = True
    photometric: float = 1.0
    noise: float = 0.0
    motion_zoom: float = 0.04
    motion_shift_px: float = 6.0
    slow_share: float = 0.3
    dense_gap_s: float = 0.2
    slow_gap_s: float = 1.5


@dataclass(frozen=True)
class KeyframeSettings:
    """Clips of one picture under a camera's motion, with motion as a codec would tell it (keyframe_clips.py).

    Per frame between the keyframe and the current one the camera comes nearer by about ``zoom`` (standard deviation,
    as a share of the distance of what it sees), turns by ``pan_px`` and rolls by ``roll_rad``; ``shake_px`` is that of
    each frame by itself. Of the keyframes a share ``occluder_share`` shows something that is gone afterwards. Motion
    is off by ``vector_noise_px`` per cell and frame, a share ``wrong_share`` of cells has vectors of nothing, and a
    share ``unknown_share`` none (each is the largest; a clip has up to that). Of the clips a share ``quantised_share``
    has pictures whose block transform is rounded to steps of at most ``quantisation``, of 255.
    """

    zoom: float = 0.02
    pan_px: float = 2.0
    roll_rad: float = 0.002
    shake_px: float = 0.7
    occluder_share: float = 0.3
    vector_noise_px: float = 0.3
    wrong_share: float = 0.1
    unknown_share: float = 0.25
    quantised_share: float = 0.6
    quantisation: float = 20.0


@dataclass(frozen=True)
class OptimiserSettings:
    """AdamW, at a rate that rises over ``warmup_steps`` and falls to 0 as (1 - progress) ** 0.9 in each stage.

    ``frozen_blocks``: so many blocks of a MobileNetV2, and the stem before them, stay as they start.
    """

    backbone_rate: float = 3e-4
    head_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 0
    average_decay: float = 0.995
    frozen_blocks: int = 0


@dataclass(frozen=True)
class StageSettings:
    """One stage: ``kind`` names its class (stages.py); ``batch`` is that of all processes together.

    ``loss`` is ``cross_entropy`` or ``ohem``; ``lovasz`` is the weight of Lovász-softmax beside it, ``distillation``
    that of following the teacher; for kind ``tdnet`` alone there are those of each frame's own scores, ``own_path``,
    of a head on the third stage of a ResNet, ``auxiliary``, and of following the teacher's groups. Where a
    distillation's weight is above 0, ``teacher`` and ``teacher_weights`` are the teacher's catalog name and weight
    file. It sees frames ``teacher_scale`` times as high and wide as the network trained here, with ``teacher_flip``
    their mirror images as well.

    Where motion carries a feature from a keyframe, ``boundary`` is the weight of the boundary-aware stream,
    ``pairwise`` and ``inner`` those of following the teacher's feature (in kind ``fst`` without a teacher the network's
    own of full resolution), ``inner_reading`` one of inner_layer.READINGS: see boundary_distillation.py. The frames of
    kind ``bdnet`` lie up to ``interval`` - 1 behind their keyframe (0: the network's keyframe interval), with
    ``motion`` as it is ``told`` or by optical ``flow``.

    For kind ``fst`` alone there are ``similarity``, the weight of the difference between the fused feature and that of
    full resolution, ``keyframe``, that of the keyframe's own loss, and ``scales``, of which each step has one for the
    frames between keyframes ([]: the network's own). ``interval`` is as above.
    """

    kind: str = "tdnet"
    steps: int = 1000
    batch: int = 4
    rate: float = 1.0
    loss: str = "cross_entropy"
    lovasz: float = 0.0
    class_weights: bool = True
    freeze_norms: bool = False
    own_path: float = 0.5
    auxiliary: float = 0.0
    distillation: float = 0.0
    group_distillation: float = 0.0
    teacher: str = ""
    teacher_weights: str = ""
    teacher_groups: int = 4
    teacher_scale: float = 1.0
    teacher_flip: bool = False
    boundary: float = 0.0
    pairwise: float = 0.0
    inner: float = 0.0
    inner_reading: str = "layer"
    interval: int = 0
    motion: str = "told"
    similarity: float = 1.0
    keyframe: float = 1.0
    scales: tuple[float, ...] = ()

    @property
    def distils(self) -> bool:
        """Whether the stage has a teacher."""
        return self.distillation > 0 or self.group_distillation > 0


@dataclass(frozen=True)
class TrainingConfiguration:
    """A whole training. ``backbone`` names folded ImageNet MobileNetV2 weights, ``start`` weights of the network.

    ``labels`` and ``input_size`` (height, width) replace the catalog's where given; frames of another size are then
    resized to ``input_size``. ``name`` tells the weights from others of the same model: they become
    ``MODEL_NAME.safetensors``.
    """

    model: str = "td2_mnv2"
    name: str = ""
    labels: str = ""
    input_size: tuple[int, ...] = ()
    seed: int = 1
    precision: str = "fp32"
    backbone: str = ""
    start: str = ""
    terms: str = ""
    log_every: int = 20
    checkpoint_every: int = 200
    validate_every: int = 500
    data: DataSettings = field(default_factory=DataSettings)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    keyframes: KeyframeSettings = field(default_factory=KeyframeSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    stages: tuple[StageSettings, ...] = (StageSettings("single"), StageSettings("tdnet"))


_CHOICES = {
    "precision": ("fp32", "bf16", "fp16"),
    "loss": ("cross_entropy", "ohem"),
    "inner_reading": ("layer", "product", "class"),
    "motion": ("told", "flow"),
}
_AT_LEAST_ONE = (
    "frames",
    "runs",
    "steps",
    "batch",
    "gop",
    "log_every",
    "checkpoint_every",
    "validate_every",
    "teacher_groups",
)
_SHARES = ("street_share", "slow_share", "occluder_share", "wrong_share", "unknown_share", "quantised_share")


def read_configuration(path: Path) -> TrainingConfiguration:
    """Read a yaml file; ``$NAME`` in texts stands for environment variables.

    ``extends: FILE``, beside the file, gives the fields that the file itself does not: see ``read_extended``. Raises
    ConfigurationError for a file that cannot be read, and for any field that is unknown or out of range.
    """
    return parse_configuration(read_extended(path, "training configuration"))


def parse_configuration(content: Any) -> TrainingConfiguration:
    """The configuration of a yaml file's content; errors as of ``read_configuration``."""
    configuration = parse_settings(TrainingConfiguration, content, _check)
    if not configuration.stages:
        raise ConfigurationError("stages is [], expected at least one stage")
    if len(configuration.input_size) not in (0, 2):
        raise ConfigurationError(f"input_size is {list(configuration.input_size)}, expected [height, width]")
    street = configuration.data.street
    if both := sorted(set(street.seeds) & set(street.selection_seeds)):
        raise ConfigurationError(
            f"data.street.selection_seeds is {list(street.selection_seeds)}, expected none of the seeds that are "
            f"trained on, such as {both[0]}"
        )
    return configuration


def _check(key: str, value: Any, name: str) -> None:
    if key in _CHOICES and value not in _CHOICES[key]:
        raise ConfigurationError(f"{name} is '{value}', expected one of {list(_CHOICES[key])}")
    if key in _AT_LEAST_ONE and value < 1:
        raise ConfigurationError(f"{name} is {value}, expected at least 1")
    if key == "crop" and min(value) < 32:
        raise ConfigurationError(f"{name} is {list(value)}, expected at least 32 px per side")
    if key == "crf" and value and not (len(value) == 2 and 0 <= value[0] <= value[1] <= 51):
        raise ConfigurationError(f"{name} is {list(value)}, expected [] or two numbers of 0..51 in rising order")
    if key in _SHARES and not 0 <= value <= 1:
        raise ConfigurationError(f"{name} is {value}, expected 0 to 1")
    if key == "scales" and not all(0 < scale <= 1 for scale in value):
        raise ConfigurationError(f"{name} is {list(value)}, expected numbers above 0 and at most 1")
    if key == "scale" and not 0 < value[0] <= value[1]:
        raise ConfigurationError(f"{name} is {list(value)}, expected two numbers above 0 in rising order")
    if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < float("inf"):
        raise ConfigurationError(f"{name} is {value}, expected 0 or more")
