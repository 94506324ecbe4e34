"""Opening what images come from: a video file, a folder of pictures or a rosbag2."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.video.image_source import CompressedPicture, ImageSource, Pixels, SourceImage, picture_size

#: Rate of an image folder when none is given: pictures carry no time.
FOLDER_RATE_HZ = 10.0
_PICTURE_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
_BAG_SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")

_log = logging.getLogger(__name__)


def open_source(path: str | Path, rate_hz: float | None = None, topic: str | None = None) -> ImageSource:
    """Open a video file, a folder of PNG or JPEG pictures, or a rosbag2 (directory, .mcap or .db3).

    ``rate_hz`` replaces the source's own times by steady ones. ``topic`` names the image topic of a bag with
    several. Raises SourceError when there is nothing at ``path`` that can be played.
    """
    path = Path(path)
    if rate_hz is not None and not rate_hz > 0:
        raise SourceError(f"rate_hz is {rate_hz}, expected more than 0")
    if not path.exists():
        raise SourceError(f"{path} does not exist; expected a video file, a folder of pictures or a rosbag2")
    if path.suffix == ".bag":
        raise SourceError(f"{path} is a ROS 1 bag; convert it first: rosbags-convert --src {path} --dst NEW")
    holds_bag = path.is_dir() and (
        (path / "metadata.yaml").exists() or any(entry.name.endswith(_BAG_SUFFIXES) for entry in path.iterdir())
    )
    if holds_bag or path.name.endswith(_BAG_SUFFIXES):
        # Imported here so that playing videos and folders does not ask for the rosbags library.
        from tdnet_ros.video.bag_source import open_bag

        return open_bag(path, rate_hz, topic)
    if topic:
        raise SourceError(f"topic is '{topic}', but {path} is not a bag: only bags have topics")
    return ImageFolder(path, rate_hz) if path.is_dir() else VideoFile(path, rate_hz)


class VideoFile(ImageSource):
    """Any video file that FFmpeg reads, as rgb8, upright, at the times that the container gives."""

    def __init__(self, path: Path, rate_hz: float | None = None) -> None:
        self.path = path
        self.name = path.name
        self._undecodable = 0
        self._steady_rate_hz = rate_hz
        self._is_turned = False
        with self._open() as container:
            stream = container.streams.video[0]
            own_rate = stream.average_rate or stream.guessed_rate
            self.rate_hz = float(rate_hz or own_rate or 0.0)
            self.frame_count = stream.frames or None
            self._codec = stream.codec_context.name
        if not self.rate_hz:
            raise SourceError(f"{path} does not say its frame rate: give one")
        # Only a decoded frame proves that the file can be played, and knows how the camera was held.
        first = next(iter(self), None)
        if first is None or not isinstance(first.content, Pixels):
            raise SourceError(f"{path} holds no frame that can be decoded, expected at least one")
        height, width = first.content.image.shape[:2]
        self.size = (width, height)

    @property
    def has_vectors(self) -> bool:
        """Whether its packets, decoded one by one, give the same pictures at the same times, and motion with them."""
        return self._codec == "h264" and not self._is_turned and not self._steady_rate_hz

    @property
    def damage(self) -> list[str]:
        count = self._undecodable
        return [f"{count} packets of {self.name} could not be decoded and were left out"] if count else []

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(f"{self.path} cannot be opened as a video: {error}") from error
        if not container.streams.video:
            container.close()
            raise SourceError(f"{self.path} has no video stream")
        return container

    def __iter__(self) -> Iterator[SourceImage]:
        index, start_ns, last_ns = 0, 0, -1
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in self._decodable_frames(container, stream):
                if self._steady_rate_hz or frame.pts is None or frame.time_base is None:
                    time_ns = round(index * 1e9 / self.rate_hz)
                else:
                    pts_ns = int(frame.pts * frame.time_base * 1_000_000_000)
                    start_ns = pts_ns if index == 0 else start_ns
                    # Containers with broken times exist; a camera's clock never stands still.
                    time_ns = max(pts_ns - start_ns, last_ns + 1)
                image = cast(npt.NDArray[np.uint8], frame.to_ndarray(format="rgb24"))
                if frame.rotation:
                    self._is_turned = True
                    image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
                yield SourceImage(index, time_ns, time_ns, Pixels(image, "rgb8"))
                index, last_ns = index + 1, time_ns

    def _decodable_frames(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Every frame that can be decoded. A recording cut off by a power failure is played as far as it goes."""
        damaged = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                frames = packet.decode() if packet is not None else []
            except av.error.FFmpegError:
                damaged += 1
                continue
            if packet is None:
                break
            yield from frames
        self._undecodable = damaged
        if damaged:
            _log.warning("%s", self.damage[0])


class ImageFolder(ImageSource):
    """The PNG and JPEG files of a folder in natural order (2 before 10), at a steady rate."""

    def __init__(self, path: Path, rate_hz: float | None = None) -> None:
        self.path = path
        self.name = path.name
        self.rate_hz = rate_hz or FOLDER_RATE_HZ
        self._files = sorted(
            (file for file in path.iterdir() if file.suffix.lower() in _PICTURE_FORMATS and file.is_file()),
            key=lambda file: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", file.name)],
        )
        if not self._files:
            raise SourceError(f"{path} holds no picture and no bag, expected files named {sorted(_PICTURE_FORMATS)}")
        self.frame_count = len(self._files)
        self.size = picture_size(self._read(self._files[0]).data, str(self._files[0]))

    @property
    def picture_names(self) -> list[str]:
        """File names without ending, in order."""
        return [file.stem for file in self._files]

    def _read(self, file: Path) -> CompressedPicture:
        try:
            return CompressedPicture(file.read_bytes(), _PICTURE_FORMATS[file.suffix.lower()])
        except OSError as error:
            raise SourceError(f"{file} cannot be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[SourceImage]:
        for index, file in enumerate(self._files):
            time_ns = round(index * 1e9 / self.rate_hz)
            yield SourceImage(index, time_ns, time_ns, self._read(file))
