"""Where the rendered street runs and its camera stands: closed forms in time, so any frame can come first.

World axes are x right, y up, z along the street, in metres; the camera's are x right, y down, z forward. A
plane piece is given by its origin (top left corner seen from its front), its ``across`` and its ``down``
vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Focal length in image widths (a horizontal view of 55 degrees) and the height of the lens above the road.
FOCAL_WIDTHS = 0.96
CAMERA_HEIGHT_M = 1.4


class RoadPath:
    """The centre line x(z) of a gently winding street, unlimited in both directions."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._wavelengths = rng.uniform([260.0, 420.0, 700.0], [400.0, 650.0, 1100.0])
        slopes = rng.uniform([0.01, 0.02, 0.02], [0.05, 0.09, 0.09])
        self._amplitudes = slopes * self._wavelengths / (2 * np.pi)
        self._phases = rng.uniform(0, 2 * np.pi, 3)

    def slope(self, z: npt.ArrayLike) -> Floats:
        """dx/dz of the centre line at z."""
        angle = 2 * np.pi * np.asarray(z, np.float64)[..., None] / self._wavelengths + self._phases
        return np.asarray((self._amplitudes * 2 * np.pi / self._wavelengths * np.cos(angle)).sum(-1))

    def point(self, lateral: npt.ArrayLike, z: npt.ArrayLike, height: npt.ArrayLike = 0.0) -> Floats:
        """World point (..., 3) at ``lateral`` metres to the right of the centre line."""
        lateral, z, height = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (lateral, z, height)))
        angle = 2 * np.pi * z[..., None] / self._wavelengths + self._phases
        centre = (self._amplitudes * np.sin(angle)).sum(-1)
        slope = self.slope(z)
        norm = np.hypot(1.0, slope)
        return np.stack([centre + lateral / norm, height, z - lateral * slope / norm], -1)

    def frames(self, z: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Unit vectors (right, forward) of the street at each z (...), each (..., 3)."""
        slope = self.slope(z)
        norm, flat = np.hypot(1.0, slope)[..., None], np.zeros_like(slope)
        right = np.stack([np.ones_like(slope), flat, -slope], -1) / norm
        forward = np.stack([slope, flat, np.ones_like(slope)], -1) / norm
        return right, forward


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: ``position`` (3,), ``rotation`` (3, 3) world to camera, ``intrinsics`` (3, 3) px."""

    position: Floats
    rotation: Floats
    intrinsics: Floats

    def planes(self, origin: Floats, across: Floats, down: Floats) -> Floats:
        """Homographies (N, 3, 3) from (u, v, 1) on each piece to homogeneous pixels and depth."""
        columns = np.stack([across, down, origin - self.position], -1)
        return np.asarray((self.intrinsics @ self.rotation) @ columns)

    def ground(self) -> Floats:
        """Homography (3, 3) from (x - position.x, z - position.z, 1) on the road to homogeneous pixels.

        Ground coordinates are relative to the camera so that float32 stays precise after hours of driving.
        """
        columns = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -self.position[1]], [0.0, 1.0, 0.0]])
        return np.asarray(self.intrinsics @ self.rotation @ columns)

    def infinity(self) -> Floats:
        """Homography (3, 3) from a direction (x, y, z) in world axes to homogeneous pixels."""
        return np.asarray(self.intrinsics @ self.rotation)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """World to camera; positive yaw looks right, positive pitch looks up, positive roll tips clockwise."""
    forward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    down = np.cross(right, forward)
    return np.stack([np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right, forward])


class EgoDrive:
    """The camera car's way along the street: varying speed, a little sway, the shake of a real mount."""

    def __init__(self, rng: np.random.Generator, path: RoadPath, lateral: float, height: int, width: int) -> None:
        self._path = path
        self._lateral = lateral
        self.speed = float(rng.uniform(4.5, 9.0))
        self._surge_rate = float(rng.uniform(0.08, 0.2))
        self._surge = 0.6 * self.speed / self._surge_rate * float(rng.uniform(0.2, 1.0))
        self._surge_phase = float(rng.uniform(0, 2 * np.pi))
        self._rates = rng.uniform(0.6, 9.0, (5, 3))
        self._phases = rng.uniform(0, 2 * np.pi, (5, 3))
        scales = np.array([0.007, 0.0035, 0.004, 0.15, 0.012])  # yaw, pitch, roll (rad), sway, bob (m)
        self._scales = scales[:, None] * rng.uniform(0.4, 1.0, (5, 3)) / np.maximum(self._rates, 1.0)
        self._level = float(rng.uniform(-0.035, 0.03))
        focal = FOCAL_WIDTHS * width
        self._intrinsics = np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])

    def distance(self, time_s: float) -> float:
        """Metres along z at that time; grows strictly because the surge never exceeds the mean speed."""
        return self.speed * time_s + self._surge * float(np.sin(self._surge_rate * time_s + self._surge_phase))

    def camera(self, time_s: float) -> Camera:
        """Where the camera stands and looks at that time, shaken by the road."""
        z = self.distance(time_s)
        shake = (self._scales * np.sin(self._rates * time_s + self._phases)).sum(1)
        position = self._path.point(self._lateral + shake[3], z, CAMERA_HEIGHT_M + shake[4])
        # Drivers look into the bend: the heading a few metres ahead, not the one under the wheels.
        yaw = float(np.arctan(self._path.slope(z + 6.0))) + shake[0]
        return Camera(position, _rotation(yaw, self._level + shake[1], shake[2]), self._intrinsics)
