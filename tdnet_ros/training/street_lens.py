"""From clean colours to what a dashcam records: soft edges, vignette, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street_draw import Numbers
from tdnet_ros.training.street_light import Weather

_MARGIN = 64


class Lens:
    """The seed's camera, for one picture size."""

    def __init__(self, seed: int, rng: np.random.Generator, height: int, width: int, weather: Weather) -> None:
        self._seed, self._weather = seed, weather
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        fall = np.float32(rng.uniform(0.04, 0.14))
        self._vignette = np.repeat((1 - fall * (x * x + y * y))[..., None], 3, axis=-1)
        grain = rng.standard_normal((height + _MARGIN, width + _MARGIN, 3), np.float32)
        shared = rng.standard_normal((height + _MARGIN, width + _MARGIN, 1), np.float32)
        # Sensors' luma noise outweighs chroma noise once a camera has filtered it.
        self._grain = np.float32(weather.noise) * (np.float32(0.45) * grain + np.float32(0.9) * shared)

    def record(self, colours: npt.NDArray[np.float32], skins: Numbers, index: int) -> npt.NDArray[np.uint8]:
        """The recorded picture (H, W, 3) uint8 of clean colours (H, W, 3) in 0..255 at frame ``index``."""
        height, width = skins.shape
        softened = cv2.GaussianBlur(colours, (3, 3), 0.85)
        image = cv2.GaussianBlur(colours, (3, 3), self._weather.softness)
        cv2.copyTo(softened, _edges(skins), image)
        image = np.asarray(image, np.float32)
        image *= self._vignette
        own = np.random.default_rng([abs(self._seed), 19, abs(index), int(index < 0)])
        top, left = own.integers(_MARGIN, size=2)
        image += self._grain[top : top + height, left : left + width]
        recorded = cv2.convertScaleAbs(np.maximum(image, 0, out=image))
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._weather.jpeg_quality]
        _, compressed = cv2.imencode(".jpg", recorded[..., ::-1], quality)
        return np.ascontiguousarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR)[..., ::-1])


def _edges(numbers: Numbers) -> npt.NDArray[np.uint8]:
    """255 where a pixel's face differs from a neighbour's."""
    edges = np.zeros(numbers.shape, np.uint8)
    across = (numbers[:, 1:] != numbers[:, :-1]).view(np.uint8) * np.uint8(255)
    down = (numbers[1:] != numbers[:-1]).view(np.uint8) * np.uint8(255)
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges
