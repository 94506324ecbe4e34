"""Pictures to packets, one in, one out: as a camera's encoder sends them, parameter sets in band."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError

#: x264 as the vectors of its stream want it: each picture refers to the one before, and to no other.
FOLLOWABLE = {"preset": "medium", "tune": "zerolatency", "bf": "0", "refs": "1"}


def encode_packets(
    images: Iterable[npt.NDArray[np.uint8]],
    codec: str = "libx264",
    gop: int = 12,
    bit_rate: int = 0,
    options: Mapping[str, str] = FOLLOWABLE,
) -> Iterator[bytes]:
    """The packets of RGB images (H, W, 3) at 30 Hz; ``codec`` and ``options`` are FFmpeg's encoder and its options.

    ``gop`` is the distance of keyframes, ``bit_rate`` in bits per second, 0 leaves it to the options. Raises
    ConfigurationError for odd sizes, which halved colour planes cannot hold.
    """
    context: Any = None
    for index, image in enumerate(images):
        if context is None:
            height, width = image.shape[:2]
            if height % 2 or width % 2:
                raise ConfigurationError(f"video size is {width}x{height}, expected even numbers")
            context = cast(Any, av.CodecContext.create(codec, "w"))
            context.height, context.width, context.pix_fmt = height, width, "yuv420p"
            context.time_base, context.framerate, context.gop_size = Fraction(1, 30), Fraction(30), gop
            context.thread_count = 1  # more would make the packets depend on the machine
            if bit_rate:
                context.bit_rate = bit_rate
            context.options = dict(options)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts = index
        yield from map(bytes, context.encode(frame))
    if context is not None:
        yield from map(bytes, context.encode(None))
