"""A clip whose motion is known at every pixel: a textured plane under a drive's ego motion, and a box that moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.video.encoding import encode_packets

_ZOOM, _ROLL_RAD, _DRIFT_PX = 1.012, 0.002, (0.7, -0.3)
_BOX_SPEED_PX, _NOISE = (2.6, 0.9), 1.5


@dataclass(frozen=True)
class DriveClip:
    """Pictures of a plane that a camera nears: each frame 1.2 % larger than the one before, turned and shifted.

    ``seed`` chooses texture and sensor noise; two clips of different seeds show different scenes.
    """

    height: int = 720
    width: int = 960
    seed: int = 0

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """RGB (H, W, 3) of frame ``index``, which depends on nothing but the seed."""
        place = self._on_plane(self._pixels, index)
        grey = cv2.remap(self._texture, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        inside = self._in_box(self._pixels, index)
        corner = self._box[:2] + index * np.array(_BOX_SPEED_PX)
        box = cv2.remap(
            self._texture[::-1],
            np.float32(self._pixels - corner),
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
        grey = np.where(inside, 255 - box, grey)
        noise = np.random.default_rng((self.seed, index)).normal(0, _NOISE, grey.shape)
        return np.repeat(np.clip(grey + noise, 0, 255).astype(np.uint8)[..., None], 3, axis=2)

    def motion(self, index: int, reference: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """(H, W, 2) px to where each pixel was in the frame ``reference``, and where that was to be seen (H, W)."""
        in_box = self._in_box(self._pixels, index)
        plane = self._from_plane(self._on_plane(self._pixels, index), reference)
        box = self._pixels - (index - reference) * np.array(_BOX_SPEED_PX)
        place = np.where(in_box[..., None], box, plane)
        inside = ((place >= 0) & (place <= (self.width - 1, self.height - 1))).all(-1)
        seen = inside & (in_box | ~self._in_box(place, reference))
        return np.float32(place - self._pixels), seen

    @cached_property
    def _pixels(self) -> npt.NDArray[np.float64]:
        return np.dstack(np.meshgrid(np.arange(self.width), np.arange(self.height))).astype(np.float64)

    @cached_property
    def _texture(self) -> npt.NDArray[np.float32]:
        """Noise of several octaves, none finer than a few px."""
        random = np.random.default_rng(self.seed)
        size = (2 * self.height, 2 * self.width)
        texture = np.zeros(size, np.float32)
        for cell in (4, 8, 16, 32, 64):
            coarse = random.normal(0, 1, (size[0] // cell + 2, size[1] // cell + 2)).astype(np.float32)
            texture += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        return 120 + 45 * texture / texture.std()

    @cached_property
    def _box(self) -> npt.NDArray[np.float64]:
        """Left, top, width and height of the box in frame 0."""
        return np.array([self.width / 5, self.height / 2, self.width / 8, self.height / 6])

    def _in_box(self, place: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.bool_]:
        offset = place - self._box[:2] - index * np.array(_BOX_SPEED_PX)
        return ((offset >= 0) & (offset < self._box[2:])).all(-1)

    def _on_plane(self, place: npt.NDArray[np.float64], index: int) -> npt.NDArray[np.float32]:
        """Texture coordinates of picture coordinates (..., 2)."""
        turned = (place - self._centre) @ _rotation(index * _ROLL_RAD).T * _ZOOM**-index
        return np.float32(turned + 2 * self._centre + index * np.array(_DRIFT_PX))

    def _from_plane(self, texture: npt.NDArray[np.float32], index: int) -> npt.NDArray[np.float64]:
        turned = (texture - 2 * self._centre - index * np.array(_DRIFT_PX)) * _ZOOM**index
        return turned @ _rotation(-index * _ROLL_RAD).T + self._centre

    @property
    def _centre(self) -> npt.NDArray[np.float64]:
        return np.array([(self.width - 1) / 2, (self.height - 1) / 2])


def encode(
    pictures: Sequence[npt.NDArray[np.uint8]], codec: str = "libx264", gop: int = 12, **options: str
) -> Iterator[bytes]:
    """The packets of RGB pictures at as many bits per pixel as 3 Mb/s give 960x720; ``options`` are the encoder's."""
    bit_rate = round(3e6 * pictures[0].shape[0] * pictures[0].shape[1] / (960 * 720))
    return encode_packets(pictures, codec, gop, bit_rate, options)


def _rotation(angle_rad: float) -> npt.NDArray[np.float64]:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine], [sine, cosine]])
