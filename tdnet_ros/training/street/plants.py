"""Trees, hedges and grass, painted from a seed: leafy, bare and evergreen crowns with light from above."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.atlas import Picture, Sprite
from tdnet_ros.training.street.noise import cloud, painted

_CROWN = 256
_LEAVES = ((104, 114, 82), (88, 100, 74), (124, 124, 92), (120, 112, 90), (92, 96, 84))


def _shaded_leaves(rng: np.random.Generator, shape: npt.NDArray[np.float32], base: npt.ArrayLike) -> Picture:
    """Foliage (h, w, 3): clumps lit from above, deep shadow between them, single leaves on top."""
    height, width = shape.shape
    clumps = cloud(rng, height, width, 32, 3)
    light = clumps - np.roll(clumps, 6, axis=0)
    leaves = cloud(rng, height, width, 4, 3)
    factor = 0.7 + 0.2 * clumps + 0.24 * light + 0.3 * leaves
    factor += np.linspace(0.3, -0.25, height, dtype=np.float32)[:, None]
    factor = np.clip(factor, 0.12, 1.45)
    hue = 1 + 0.05 * cloud(rng, height, width, 30, 2)[..., None] * np.array([1.2, 0.4, -0.6], np.float32)
    return painted(np.asarray(np.asarray(base, np.float32) * hue, np.float32), factor)


def _trunk(mask: Picture, x: float, top: float, thickness: float) -> None:
    height = mask.shape[0]
    corners = np.array(
        [
            [x - thickness * 0.35, top],
            [x + thickness * 0.35, top],
            [x + thickness * 0.6, height],
            [x - thickness * 0.6, height],
        ]
    )
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)


def leafy_tree(rng: np.random.Generator) -> Sprite:
    """A broad crown on a trunk, as tall as it is wide."""
    size = _CROWN
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    centre, low = 0.5 + float(rng.uniform(-0.05, 0.05)), float(rng.uniform(0.72, 0.85))
    wide, tall = float(rng.uniform(0.38, 0.46)), low / 2
    distance = np.hypot((x - centre) / wide, (y - tall) / tall)
    distance += 0.13 * cloud(rng, size, size, 60, 3) + 0.06 * cloud(rng, size, size, 8, 2)
    crown = np.asarray(distance < 0.92, np.uint8) * np.uint8(255)
    holes = (cloud(rng, size, size, 16, 3) - 1.6 + 0.7 * np.clip(distance, 0, 1)) > 0.25
    visible = np.where(holes, 0, crown).astype(np.uint8)
    picture = _shaded_leaves(rng, distance, _LEAVES[rng.integers(len(_LEAVES))])
    trunk = np.zeros_like(visible)
    _trunk(trunk, centre * size, low * size * 0.6, size * 0.055)
    bark = painted(np.array([62, 55, 46], np.float32), 1 + 0.25 * cloud(rng, size, size, 20, 3, 0.3))
    only_trunk = (trunk > 0) & (visible == 0)
    picture[only_trunk] = bark[only_trunk]
    return Sprite(picture, np.maximum(visible, trunk), np.maximum(crown, trunk))


def _branch(
    rng: np.random.Generator,
    mask: Picture,
    start: npt.NDArray[np.float64],
    angle: float,
    length: float,
    depth: int,
) -> None:
    end = start + length * np.array([np.sin(angle), -np.cos(angle)])
    points = np.round(np.stack([start, end]) * 8).astype(np.int32)
    thickness = max(1, round(length * 0.06)) if depth > 2 else 1
    cv2.line(
        mask,
        points[0].tolist(),
        points[1].tolist(),
        (255, 220, 190, 140, 120)[max(0, 4 - depth)],
        thickness,
        cv2.LINE_AA,
        3,
    )
    if depth == 0:
        return
    for twig in range(3):
        where = start + (end - start) * (1.0 if twig == 0 else float(rng.uniform(0.4, 0.95)))
        # Twigs grow towards the light: each bends back to upright a little.
        turn = angle * 0.85 + float(rng.normal(0, 0.42))
        _branch(rng, mask, where, turn, length * float(rng.uniform(0.6, 0.82)), depth - 1)


def bare_tree(rng: np.random.Generator) -> Sprite:
    """A winter tree: twigs against the sky; the label covers the crown's hull, as people draw it."""
    size = _CROWN
    twigs = np.zeros((size, size), np.uint8)
    foot = np.array([size / 2, float(size)])
    fork = foot - [0, size * float(rng.uniform(0.18, 0.26))]
    cv2.line(twigs, (size // 2, size), (size // 2, int(fork[1] - size * 0.2)), 255, 7, cv2.LINE_AA)
    for angle in np.linspace(-0.8, 0.8, 7) + rng.normal(0, 0.1, 7):
        start = fork - [0, float(rng.uniform(0, size * 0.2))]
        _branch(rng, twigs, start, float(angle), size * float(rng.uniform(0.2, 0.25)), 4)
    _trunk(twigs, size / 2, size * 0.72, size * 0.04)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15))
    hull = np.asarray(
        cv2.morphologyEx(np.asarray(twigs > 60, np.uint8) * np.uint8(255), cv2.MORPH_CLOSE, kernel), np.uint8
    )
    inner = cv2.erode(hull, np.ones((7, 7), np.uint8)) > 0
    fine = (cloud(rng, size, size, 4, 2) > 1.15) & inner
    fine[int(size * 0.75) :] = False
    visible = np.maximum(twigs, fine.astype(np.uint8) * np.uint8(200))
    base = np.array([104, 96, 86], np.float32) * float(rng.uniform(0.6, 1.1))
    return Sprite(painted(base, 0.9 + 0.3 * cloud(rng, size, size, 12, 4)), visible, hull)


def conifer(rng: np.random.Generator) -> Sprite:
    """A narrow dark evergreen, green down to the ground."""
    size = _CROWN
    y, x = np.mgrid[0:size, 0 : size // 2].astype(np.float32) / size
    edge = 0.02 + 0.23 * y**0.7 * (1 - 0.15 * np.clip(y - 0.85, 0, 1) / 0.15)
    ragged = np.abs(x - 0.25) / edge + 0.1 * cloud(rng, size, size // 2, 24, 4)
    shape = np.asarray(ragged < 0.95, np.uint8) * np.uint8(255)
    return Sprite(_shaded_leaves(rng, ragged, np.array([56, 66, 46]) * rng.uniform(0.7, 1.1)), shape)


def hedge(rng: np.random.Generator) -> Sprite:
    """A length of hedge or bushes, 6 m by 2 m, with an uneven top."""
    height, width = 64, 192
    shape = np.full((height, width), 255, np.uint8)
    top = (6 + 4 * cloud(rng, 1, width, 30, 4)[0]).clip(0, 22)
    shape[np.arange(height)[:, None] < top[None]] = 0
    leaves = _shaded_leaves(rng, shape.astype(np.float32), _LEAVES[rng.integers(len(_LEAVES))])
    return Sprite(leaves, shape)


def wood(rng: np.random.Generator) -> Sprite:
    """Trees side by side, 20 m by 9 m, bare and green mixed: the edge of a park."""
    height, width = 192, 448
    y = np.mgrid[0:height, 0:width][0].astype(np.float32) / height
    top = 0.2 + 0.13 * cloud(rng, 1, width, 70, 4)[0][None] + 0.05 * cloud(rng, height, width, 10, 3)
    region = np.asarray(y > top, np.uint8) * np.uint8(255)
    thin = np.clip((y - top) * 2.2, 0, 1)
    visible = np.where(cloud(rng, height, width, 9, 4) * 0.5 + thin * 1.6 > 0.25, region, 0).astype(np.uint8)
    base = np.array(_LEAVES[rng.integers(len(_LEAVES))], np.float32) * float(rng.uniform(0.6, 1.0))
    return Sprite(_shaded_leaves(rng, y, base), visible, region)
