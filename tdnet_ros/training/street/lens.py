"""From clean colours to what a dashcam records: soft edges, vignette, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.draw import Numbers
from tdnet_ros.training.street.light import Weather

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
        noise = np.float32(weather.noise) * (np.float32(0.45) * grain + np.float32(0.9) * shared)
        self._grain = np.rint(noise).astype(np.int16)

    def record(self, colours: npt.NDArray[np.float32], skins: Numbers, index: int) -> npt.NDArray[np.uint8]:
        """The recorded picture (H, W, 3) uint8 of clean colours (H, W, 3) in 0..255, which it uses up."""
        height, width = skins.shape
        colours *= self._vignette
        image = np.asarray(cv2.convertScaleAbs(colours), np.uint8)
        # Painted edges are hard: softening them stands in for the light a pixel gathers on either side.
        cv2.copyTo(cv2.GaussianBlur(image, (3, 3), 0.85), _edges(skins.astype(np.uint16)), image)
        sharp = self._weather.sharpening
        soft = cv2.GaussianBlur(image, (5, 5), 1.1)
        image = np.asarray(cv2.addWeighted(image, 1 + sharp, soft, -sharp, 0), np.uint8)
        own = np.random.default_rng([self._seed, 19, index])
        top, left = own.integers(_MARGIN, size=2)
        grain = self._grain[top : top + height, left : left + width]
        recorded = np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._weather.jpeg_quality]
        _, compressed = cv2.imencode(".jpg", cv2.cvtColor(recorded, cv2.COLOR_RGB2BGR), quality)
        shown = np.asarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR), np.uint8)
        return np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)


def _edges(numbers: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """255 where a pixel's face differs from a neighbour's."""
    edges = np.zeros(numbers.shape, np.uint8)
    across = (numbers[:, 1:] != numbers[:, :-1]).view(np.uint8) * np.uint8(255)
    down = (numbers[1:] != numbers[:-1]).view(np.uint8) * np.uint8(255)
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges
