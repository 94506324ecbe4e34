"""Frames out of a source's images, whatever form the source holds them in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError, ImageError
from tdnet_ros.video.decoding import decode_image
from tdnet_ros.video.file_packets import file_packets
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.image_source import CompressedPicture, ImageSource, Pixels, SourceImage
from tdnet_ros.video.messages.images import compressed_to_frame, compressed_view, image_view, to_frame
from tdnet_ros.video.messages.types import IMAGE_TYPE
from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder
from tdnet_ros.video.sources import VideoFile


def frame_of(image: SourceImage) -> Frame:
    """The image's pixels; raises ImageError or DecodeError, naming the image, when it is no good."""
    content = image.content
    try:
        if isinstance(content, Pixels):
            return Frame(content.image, image.stamp_ns, content.encoding)
        if isinstance(content, CompressedPicture):
            return Frame(decode_image(content.data, content.format), image.stamp_ns, "bgr8")
        if content.type_name == IMAGE_TYPE:
            return to_frame(image_view(content.cdr))
        return compressed_to_frame(compressed_view(content.cdr))
    except (ImageError, DecodeError) as error:
        raise type(error)(f"image {image.index}: {error}") from error


def frames(source: ImageSource) -> Iterator[Frame]:
    """All frames of a source, in order."""
    return map(frame_of, source)


def moving_frames(source: ImageSource) -> Iterator[Frame]:
    """As ``frames``; those of an H.264 file bring along the motion that its bitstream tells."""
    if not isinstance(source, VideoFile) or not source.has_vectors:
        yield from frames(source)
        return
    for picture in _pictures(source.path):
        if picture.packet.is_shown:
            yield Frame(picture.rgb(), picture.packet.stamp_ns, motion=picture.motion)


def _pictures(path: Path) -> Iterator[DecodedPicture]:
    decoder = PacketDecoder(vectors=True)
    for packet in file_packets(path):
        yield from decoder.decode(packet)
    yield from decoder.flush()


def grey(frame: Frame) -> npt.NDArray[np.uint8]:
    """The frame's brightness (H, W) uint8."""
    if frame.encoding == "mono8":
        return frame.image
    code = cv2.COLOR_RGB2GRAY if frame.encoding == "rgb8" else cv2.COLOR_BGR2GRAY
    return np.asarray(cv2.cvtColor(frame.image, code), np.uint8)
