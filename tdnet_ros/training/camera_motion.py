"""A drive as a still picture can show it: where its points were some frames ago, were the scene a plane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tdnet_ros.training.configuration import KeyframeSettings

Floats = npt.NDArray[np.float64]

#: Of the drives so many go backwards: a camera that looks to the rear, a car that parks.
_BACKWARDS = 0.15
#: The plane may come no nearer than this share of its distance.
_NEAREST = 0.3


class CameraMotion(NamedTuple):
    """A steady motion per frame: ``zoom`` and, at the picture's lower edge, ``tilt`` more; ``pan_px``, ``roll_rad``.

    ``focus`` (x, y) is where it heads to, from -1 to 1; ``seed`` that of each frame's shaking.
    """

    zoom: float
    tilt: float
    pan_px: Floats
    roll_rad: float
    shake_px: float
    focus: Floats
    seed: int

    def back(self, frames: int, size: tuple[int, int]) -> Floats:
        """Map (3, 3) of px of a picture of ``size`` (h, w) to those of the one so many frames before it.

        The plane's distance grows with ``frames``, most at the bottom, as a road's does: a homography.
        """
        height, width = size
        place = np.array([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1.0]])
        place[:2, 2] += self.focus * place[[0, 1], [0, 1]]
        further = 1 + frames * self.zoom
        away = np.array(
            [[1, 0, 0], [0, 1, 0], [0, frames * self.tilt, max(further, _NEAREST + abs(frames * self.tilt))]]
        )
        cosine, sine = np.cos(frames * self.roll_rad), np.sin(frames * self.roll_rad)
        roll = np.array([[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0], [0, 0, 1]])
        shake = np.random.default_rng((self.seed, frames)).normal(0, self.shake_px, 2) if frames else np.zeros(2)
        turn = np.eye(3)
        turn[:2, 2] = frames * self.pan_px + shake
        return np.asarray(turn @ place @ away @ roll @ np.linalg.inv(place), np.float64)


def draw_camera_motion(random: np.random.Generator, settings: KeyframeSettings) -> CameraMotion:
    """One drive's motion."""
    zoom = abs(random.normal(0, settings.zoom)) * (-1 if random.random() < _BACKWARDS else 1)
    return CameraMotion(
        zoom=zoom,
        tilt=zoom * random.uniform(0, 0.8),
        pan_px=random.normal(0, settings.pan_px, 2) * (1.0, 0.4),
        roll_rad=random.normal(0, settings.roll_rad),
        shake_px=settings.shake_px * random.uniform(),
        focus=random.uniform(-0.2, 0.2, 2),
        seed=int(random.integers(2**31)),
    )


def move(points: Floats, homography: Floats) -> Floats:
    """Points (N, 2), x and y, through a homography (3, 3)."""
    mapped = np.column_stack([points, np.ones(len(points))]) @ homography.T
    return np.asarray(mapped[:, :2] / mapped[:, 2:], np.float64)
