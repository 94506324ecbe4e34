"""Poles, signs, traffic lights, fences and bins, painted from a seed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.atlas import Picture, Sprite
from tdnet_ros.training.street.noise import cloud, painted

TRIANGLE = ((0.5, 0.0), (1.0, 0.95), (0.0, 0.95))


def _flat(height: int, width: int, colour: npt.ArrayLike) -> Picture:
    return np.full((height, width, 3), np.asarray(colour, np.uint8), np.uint8)


def pole(rng: np.random.Generator) -> Sprite:
    """A round post: light on one side, dark on the other, worn along its height."""
    width, height = 16, 128
    across = 0.75 + 0.45 * np.cos(np.linspace(-0.4, 2.6, width, dtype=np.float32))
    base = np.array(((120, 122, 120), (60, 64, 62), (96, 98, 100), (46, 50, 48))[rng.integers(4)], np.float32)
    return Sprite(painted(base, across[None] * (1 + 0.08 * cloud(rng, height, width, 30, 3))))


def bollard_pole(rng: np.random.Generator) -> Sprite:
    """A short black post with a light band, or a crossing's striped one."""
    picture = pole(rng).picture // 2
    if rng.random() < 0.5:
        picture[14:30] = (190, 186, 180)
    if rng.random() < 0.4:
        for start in range(0, 128, 32):
            picture[start : start + 16] = (205, 205, 200)
    return Sprite(picture)


def round_sign(rng: np.random.Generator) -> Sprite:
    """Red ring with a number, a blue disc with an arrow, or no entry."""
    picture = _flat(64, 64, (225, 225, 222))
    kind = int(rng.integers(3))
    if kind == 0:
        cv2.circle(picture, (32, 32), 27, (190, 28, 34), 9, cv2.LINE_AA)
        cv2.putText(
            picture,
            str(rng.choice(["20", "30", "40"])),
            (14, 43),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.95,
            (20, 20, 20),
            3,
        )
    elif kind == 1:
        picture[:] = (26, 74, 150)
        cv2.arrowedLine(picture, (44, 18), (20, 46), (235, 235, 235), 6, tipLength=0.45)
    else:
        picture[:] = (185, 26, 34)
        picture[26:38, 12:52] = (232, 232, 230)
    return Sprite(picture)


def triangle_sign(rng: np.random.Generator) -> Sprite:
    """A warning sign, 64x64."""
    picture = _flat(64, 64, (186, 28, 34))
    cv2.fillPoly(picture, [np.array([[32, 17], [51, 53], [13, 53]], np.int32)], (228, 228, 224))
    cv2.line(picture, (32, 30), (int(rng.integers(26, 38)), 48), (20, 20, 20), 4)
    return Sprite(picture)


def board_sign(rng: np.random.Generator) -> Sprite:
    """A rectangular board: direction, clearway, parking, estate agent or shop sign."""
    colours = ((24, 92, 62), (30, 70, 140), (222, 176, 40), (228, 228, 224), (150, 32, 40), (40, 42, 44))
    back = np.array(colours[rng.integers(len(colours))], np.float32)
    picture = _flat(64, 64, back)
    ink = (30, 30, 30) if back.mean() > 120 else (230, 230, 225)
    cv2.rectangle(picture, (2, 2), (61, 61), ink, 2)
    for row in range(14, 54, int(rng.integers(11, 18))):
        x, last = int(rng.integers(7, 14)), int(rng.integers(36, 54))
        while x < last:
            cv2.line(picture, (x, row), (x, row + 5), ink, 1)
            cv2.line(picture, (x, row + 5 * int(rng.integers(2))), (x + 2, row + 5 * int(rng.integers(2))), ink, 1)
            x += int(rng.choice([3, 4, 4, 7]))
    return Sprite(picture)


def traffic_light(rng: np.random.Generator) -> Sprite:
    """A black head with one of three lamps lit, on a backing board with a thin white edge."""
    picture = _flat(96, 40, (14, 15, 16))
    cv2.rectangle(picture, (0, 0), (39, 95), (120, 120, 118), 2)
    lit = int(rng.integers(3))
    for lamp, colour in enumerate(((255, 60, 50), (255, 180, 60), (60, 240, 170))):
        dim = tuple(int(c * (1.0 if lamp == lit else 0.16)) for c in colour)
        cv2.circle(picture, (20, 18 + 30 * lamp), 11, dim, -1, cv2.LINE_AA)
    return Sprite(picture)


def railing(rng: np.random.Generator) -> Sprite:
    """Guard rail panel, 2 m by 1 m: the label covers the panel, between its bars one sees through."""
    visible = np.zeros((64, 128), np.uint8)
    visible[:5] = visible[54:58] = 255
    for x in range(0, 128, int(rng.integers(7, 11))):
        visible[:60, x : x + 2] = 255
    visible[:, :4] = visible[:, 124:] = 255
    base = np.array(((128, 132, 132), (52, 56, 52), (150, 152, 150), (40, 44, 46))[rng.integers(4)], np.float32)
    picture = painted(base, 0.9 + 0.12 * cloud(rng, 64, 128, 20, 3))
    return Sprite(picture, visible, framed=True)


def plank_fence(rng: np.random.Generator) -> Sprite:
    """Close-boarded timber, 3 m by 1.6 m."""
    planks = np.repeat(rng.standard_normal(26, np.float32), 5)[None, :128]
    base = np.array(((104, 84, 62), (88, 80, 70), (72, 62, 50))[rng.integers(3)], np.float32)
    factor = 0.9 + 0.1 * planks + 0.08 * cloud(rng, 64, 128, 30, 4, 0.2)
    factor[:, ::5] *= 0.5
    factor[:3] *= 1.3
    return Sprite(painted(base, np.asarray(factor, np.float32)))


def litter_bin(rng: np.random.Generator) -> Sprite:
    """A bin as it stands at a kerb."""
    picture = painted(np.array([48, 50, 50], np.float32), 1 + 0.2 * cloud(rng, 64, 40, 20, 3))
    picture[8:16, 6:34] = 12
    picture[18:21] = (130, 120, 60)
    return Sprite(picture)
