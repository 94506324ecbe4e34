"""What every source of images is: pictures in order, with their times, in the form in which they are stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError, SourceError
from tdnet_ros.video.decoding import decode_image


@dataclass(frozen=True)
class Pixels:
    """A decoded image: uint8 (H, W, 3), C-contiguous, channels as ``encoding`` (rgb8 or bgr8) says."""

    image: npt.NDArray[np.uint8]
    encoding: str


@dataclass(frozen=True)
class CompressedPicture:
    """The bytes of a picture file; ``format`` is jpeg or png."""

    data: bytes
    format: str


@dataclass(frozen=True)
class StoredMessage:
    """A message as a bag holds it: serialised (CDR), with its type, sensor_msgs/msg/Image or /CompressedImage."""

    cdr: bytes
    type_name: str


@dataclass(frozen=True)
class SourceImage:
    """One image, in the form in which its source holds it: nothing is decoded that may be passed on as it is.

    ``time_ns`` is the place on the source's timeline: 0 for the first image, never going back; play by it.
    ``stamp_ns`` is when the image was taken, which in a bag may well jump: pair results by it.
    """

    index: int
    time_ns: int
    stamp_ns: int
    content: Pixels | CompressedPicture | StoredMessage


class ImageSource(ABC):
    """Images in order, with their times. Iterating again starts again from the first image.

    ``name`` is for people. ``size`` is (width, height) of the first image. ``frame_count`` is None where only
    playing to the end would tell. ``has_clock`` says that stamps are wall-clock capture times; otherwise they
    count from the start of the source. ``compressed`` says that images are stored as CompressedImage messages.
    ``damage`` says in words what of the source could not be read, as far as it has been.
    """

    name: str
    rate_hz: float
    size: tuple[int, int]
    frame_count: int | None
    has_clock: bool = False
    compressed: bool = False

    @property
    def damage(self) -> list[str]:
        return []

    @abstractmethod
    def __iter__(self) -> Iterator[SourceImage]:
        """Images from the first to the last; raises SourceError where the source cannot be read on."""


def picture_size(data: bytes, name: str) -> tuple[int, int]:
    """(width, height) of a JPEG or PNG; raises SourceError, naming the picture, when it cannot be decoded."""
    try:
        height, width = decode_image(data).shape[:2]
    except DecodeError as error:
        raise SourceError(f"{name} is not a picture that can be played: {error}") from error
    return width, height
