"""The segmentation node's ROS parameters. ``config/segmentation.yaml`` documents the same fields for users."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import AUTO
from tdnet_ros.node.settings import setting
from tdnet_ros.streaming import DEFAULT_MODEL, SCORE_MEMORY, ContinuityLimits, StreamSettings
from tdnet_ros.streaming.engines import ENGINES
from tdnet_ros.streaming.runtime import PRECISIONS
from tdnet_ros.streaming.settings import MOTIONS
from tdnet_ros.video.motion import CUT_SHARE

INPUT_TRANSPORTS = ("raw", "compressed", "ffmpeg", "foxglove")

#: A relative name in a ROS graph.
_NAME = re.compile(r"[A-Za-z]\w*(/[A-Za-z]\w*)*", re.ASCII)


@dataclass(frozen=True)
class SegmentationParameters:
    """What the node can be told. Fields that are not live are fixed from configure to cleanup."""

    cameras: list[str] = setting(  # noqa: RUF009 - a field, made anew for every instance
        [""],
        "Names of the cameras, each a prefix of its topics, such as front: front/image, front/mask. The one empty name "
        "stands for a single camera without a prefix.",
    )
    gather_ms: float = setting(
        20.0,
        "For so long, in ms, an image waits for those of other cameras that are triggered together with it.",
        0.0,
        100.0,
    )
    input_transport: str = setting(
        "raw",
        "How images arrive: raw is sensor_msgs/Image on 'image', compressed is sensor_msgs/CompressedImage (JPEG, PNG "
        "or video) on 'image/compressed', ffmpeg is FFMPEGPacket on 'image/ffmpeg', foxglove is CompressedVideo on "
        "'image/foxglove'.",
        choices=INPUT_TRANSPORTS,
    )
    segment_damaged_video: bool = setting(
        False,
        "Segments pictures of a video between a lost packet and the next keyframe, too: parts of them are invented.",
    )
    model: str = setting(
        AUTO, f"Network ('tdnet-ros models' lists them); auto: the weight file's, else {DEFAULT_MODEL}."
    )
    weights: str = setting(
        "",
        "Weight file (official, or our safetensors), or the name of weights that ship ('tdnet-ros models' lists them), "
        "or AR-Seg's two official files as HIGH,ALTERNATING; empty: the default weights that ship with the model.",
    )
    device: str = setting("auto", "auto (CUDA when there is one), cpu, cuda or cuda:N.")
    precision: str = setting(
        "auto",
        "auto is fp16 on CUDA and fp32 on a CPU; bf16 needs a processor or GPU with such arithmetic.",
        choices=("auto", *PRECISIONS),
    )
    runtime: str = setting(
        "auto",
        "How a step runs: auto is cudagraph on CUDA and eager on a CPU; compile takes up to a minute at the start.",
        choices=("auto", *ENGINES),
    )
    input_height: int = setting(
        0,
        "Height in px at which frames go through the network, aspect kept; 0: what the weights were made for.",
        0,
        4096,
    )
    score_memory: float = setting(
        SCORE_MEMORY,
        "How much the class probabilities of the frame before count where the picture is the same; 0: not at all.",
        0.0,
        0.95,
    )
    keyframe_interval: int = setting(
        0,
        "At most so many frames from one keyframe to the next; 0: the network's own, 1: every frame is computed in "
        "full.",
        0,
        1000,
        live=True,
    )
    low_resolution: float = setting(
        0.0,
        "Scale of the frames between keyframes, 0.1 to 1; 0: the network's own. One that is set while the node works "
        "is made ready by its first frames.",
        0.0,
        1.0,
        live=True,
    )
    motion: str = setting(
        "auto",
        "Motion to the keyframe: auto takes the vectors of the video, else optical flow; flow; zero: nothing moves.",
        choices=MOTIONS,
        live=True,
    )
    cut_threshold: float = setting(
        CUT_SHARE,
        "A picture of which a larger share cannot be found in the one before is of another scene, and empties the "
        "window; 1: none is.",
        0.01,
        1.0,
        live=True,
    )
    latency_budget_ms: float = setting(
        0.0,
        "Age, in ms, above which the frames between keyframes lose resolution and keyframes become rarer, step by "
        "step; 0: no limit. Changes nothing where every frame is computed in full, as by the default model.",
        0.0,
        live=True,
    )
    threads: int = setting(0, "CPU threads for the network; 0: one per core.", 0, 256)
    autostart: bool = setting(True, "Configure and activate at start; false leaves that to a lifecycle manager.")
    max_gap_s: float = setting(0.9, "A longer gap between stamps, in s, empties the window.", 0.001, 3600.0, live=True)
    max_back_s: float = setting(
        0.5,
        "Stamps that go back by more than this, in s, empty the window; smaller steps drop the frame.",
        0.001,
        3600.0,
        live=True,
    )
    output_scale: float = setting(
        1.0,
        "Size of masks, confidence and overlay as a share of the image's; pixels are sampled, the nearest one.",
        0.01,
        1.0,
    )
    min_confidence: float = setting(
        0.0, "Pixels below this confidence are unlabelled (255) in the mask; 0: none.", 0.0, 1.0, live=True
    )
    ignore_mask: str = setting(
        "",
        "Picture of the image's size; where it is not black, as on the own bonnet, masks are unlabelled (255). "
        "{camera} in it stands for the camera's name.",
    )
    overlay_opacity: float = setting(0.5, "Opacity of the mask on 'overlay'.", 0.0, 1.0, live=True)
    warn_rate_hz: float = setting(
        5.0, "Diagnostics warn when fewer masks than this come out per second.", 0.0, live=True
    )
    error_rate_hz: float = setting(1.0, "Diagnostics report an error below this rate.", 0.0, live=True)
    timeout_s: float = setting(
        3.0, "Diagnostics report a timeout after so many seconds without an image.", 0.1, 3600.0, live=True
    )

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras, by the prefix of their topics. Raises ConfigurationError for one that can be no prefix."""
        names = tuple(self.cameras) or ("",)
        for name in names:
            if not _NAME.fullmatch(name) and names != ("",):
                raise ConfigurationError(f"parameter 'cameras' names '{name}', expected letters, digits, _ and /")
            if names.count(name) > 1:
                raise ConfigurationError(f"parameter 'cameras' names '{name}' {names.count(name)} times, expected once")
        return names

    @property
    def stream_settings(self) -> StreamSettings:
        """Keyframes, resolution, motion, cuts and budget. Raises ConfigurationError for what cannot be meant."""
        return StreamSettings(
            self.keyframe_interval, self.low_resolution, self.motion, self.cut_threshold, self.latency_budget_ms
        )

    @property
    def limits(self) -> ContinuityLimits:
        """When a frame does not continue its stream."""
        return ContinuityLimits(self.max_gap_s, self.max_back_s)


def camera_topics(text: str) -> dict[str, str]:
    """Topic of each camera's images, by its name, of ``NAME=TOPIC,NAME=TOPIC``; none of them for an empty text.

    Raises ConfigurationError for what is not written so, and for a name that comes twice.
    """
    topics: dict[str, str] = {}
    for part in text.split(",") if text.strip() else ():
        name, _, topic = map(str.strip, part.partition("="))
        if not _NAME.fullmatch(name) or not topic:
            raise ConfigurationError(f"cameras is '{text}', expected NAME=TOPIC,NAME=TOPIC of letters, digits, _ and /")
        if name in topics:
            raise ConfigurationError(f"cameras is '{text}', expected '{name}' once")
        topics[name] = topic
    return topics
