"""Pictures for people: the camera's image with the classes laid over it, as a video and a contact sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.labels import LabelSet, colourise
from tdnet_ros.video.frame import Frame

if TYPE_CHECKING:
    from typing_extensions import Self

RgbPicture = npt.NDArray[np.uint8]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK = (235, 235, 235)
_PAPER = 24


def as_rgb(frame: Frame) -> RgbPicture:
    """The frame's image as RGB (H, W, 3) uint8; the frame's own memory when it is rgb8 already."""
    if frame.encoding == "rgb8":
        return frame.image
    code = cv2.COLOR_GRAY2RGB if frame.encoding == "mono8" else cv2.COLOR_BGR2RGB
    return cast(RgbPicture, cv2.cvtColor(frame.image, code))


def blend(image: RgbPicture, mask: npt.NDArray[np.uint8], labels: LabelSet, opacity: float = 0.5) -> RgbPicture:
    """Class colours over an RGB image (H, W, 3). The mask is stretched to it; unlabelled pixels stay bare."""
    height, width = image.shape[:2]
    if mask.shape != (height, width):
        mask = cast(RgbPicture, cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))
    mixed = cv2.addWeighted(image, 1 - opacity, colourise(mask, labels), opacity, 0)
    return np.where((mask < len(labels))[..., None], mixed, image).astype(np.uint8, copy=False)


def annotate(picture: RgbPicture, labels: LabelSet, text: str) -> RgbPicture:
    """The picture with a line of text in its corner and, below it, the colours and names of the classes.

    The result has even sides, as video encoders want them.
    """
    width = picture.shape[1] - picture.shape[1] % 2
    picture = np.array(picture[: picture.shape[0] - picture.shape[0] % 2, :width], order="C")
    scale = max(0.35, width / 1800)
    line = round(34 * scale)
    if text:
        (text_width, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
        picture[: line + 4, : min(width, text_width + 16)] //= 4
        cv2.putText(picture, text, (8, line - 4), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return np.concatenate([picture, _legend(labels, width, scale)])


def _legend(labels: LabelSet, width: int, scale: float) -> RgbPicture:
    line, swatch = round(36 * scale), round(20 * scale)
    places: list[tuple[int, int]] = []
    x, row = 8, 0
    for name in labels.names:
        needed = swatch * 2 + cv2.getTextSize(name, _FONT, scale, 1)[0][0] + 8
        if x + needed > width and x > 8:
            x, row = 8, row + 1
        places.append((x, row))
        x += needed
    height = (row + 1) * line + 8
    strip = np.full((height + height % 2, width, 3), _PAPER, np.uint8)
    for (x, row), name, colour in zip(places, labels.names, labels.colours, strict=True):
        top = row * line + (line - swatch) // 2 + 4
        cv2.rectangle(strip, (x, top), (x + swatch, top + swatch), colour, cv2.FILLED)
        cv2.putText(strip, name, (x + swatch + swatch // 2, top + swatch - 2), _FONT, scale, _INK, 1, cv2.LINE_AA)
    return strip


class OverlayVideo:
    """Writes pictures of one size as a video: H.264 where this FFmpeg has an encoder for it, else MPEG-4.

    A picture of another size than the first is scaled to it. Raises SourceError when the file cannot be
    written.
    """

    def __init__(self, path: Path, rate_hz: float) -> None:
        self.path = path
        self.count = 0
        self._codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._rate = Fraction(max(rate_hz, 0.01)).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        with self._errors_named():
            path.open("wb").close()  # FFmpeg itself opens the file only with the first packet
            self._container = av.open(str(path), "w", options={"movflags": "+faststart"})

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(f"{self.path} cannot be written as a video: {error}") from error

    def add(self, picture: RgbPicture) -> None:
        """Append an RGB picture (H, W, 3) uint8 with even sides."""
        if self._stream is None:
            self._stream = self._add_stream(*picture.shape[:2])
        size = (self._stream.width, self._stream.height)
        if picture.shape[1::-1] != size:
            picture = cast(RgbPicture, cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = self.count
        frame.time_base = 1 / self._rate
        with self._errors_named():
            self._container.mux(self._stream.encode(frame))
        self.count += 1

    def _add_stream(self, height: int, width: int) -> av.VideoStream:
        stream = cast(av.VideoStream, self._container.add_stream(self._codec, rate=self._rate))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        if self._codec == "libx264":
            stream.options = {"crf": "23", "preset": "veryfast"}
        else:
            stream.bit_rate = 4_000_000
        return stream

    def close(self) -> None:
        """Write what the encoder still holds and the file's index."""
        with self._errors_named(), self._container:
            if self._stream is not None:
                self._container.mux(self._stream.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_contact_sheet(path: Path, pictures: Sequence[RgbPicture], columns: int = 3, width: int = 480) -> None:
    """A PNG of the pictures side by side, each ``width`` px wide; SourceError if it cannot be written."""
    tiles = [
        cv2.resize(p, (width, round(p.shape[0] * width / p.shape[1])), interpolation=cv2.INTER_AREA) for p in pictures
    ]
    height = max(tile.shape[0] for tile in tiles)
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + 4), min(columns, len(tiles)) * (width + 4), 3), _PAPER, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * (height + 4) + 2, index % columns * (width + 4) + 2
        sheet[top : top + tile.shape[0], left : left + width] = tile
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise SourceError(f"{path} cannot be written as a picture")
