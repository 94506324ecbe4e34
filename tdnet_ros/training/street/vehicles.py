"""Cars, vans and buses: solid bodies of plane panels with painted windows, lights, plates and wheels."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import CAMVID
from tdnet_ros.training.street.atlas import Picture, Sprite, SpriteBook
from tdnet_ros.training.street.faces import DISC, SQUARE, FaceBuilder, Faces, Outline
from tdnet_ros.training.street.noise import cloud, painted

CAR = CAMVID.names.index("car")
_PAINTS = (
    (150, 154, 158),
    (34, 36, 40),
    (28, 36, 66),
    (110, 24, 26),
    (206, 208, 206),
    (92, 96, 100),
    (40, 62, 54),
    (96, 128, 146),
    (150, 112, 58),
    (58, 60, 64),
    (176, 178, 178),
    (50, 72, 118),
)
_RIGHT: npt.NDArray[np.float64] = np.array([1.0, 0.0, 0.0])
_AHEAD: npt.NDArray[np.float64] = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Shape:
    """Measures of a body in metres: how far its cabin starts from either end, its waist and its slopes,

    and how far bonnet and boot fall towards the ends."""

    length: float
    width: float
    height: float
    waist: float
    bonnet: float
    boot: float
    screen_slope: float
    rear_slope: float
    inset: float
    wheel: float
    nose_drop: float
    tail_drop: float


HATCHBACK = Shape(3.9, 1.68, 1.46, 0.93, 0.85, 0.14, 0.95, 0.45, 0.2, 0.6, 0.22, 0.06)
SALOON = Shape(4.5, 1.76, 1.43, 0.93, 1.05, 0.8, 1.0, 0.75, 0.22, 0.62, 0.24, 0.08)
VAN = Shape(4.8, 1.9, 2.1, 1.1, 0.7, 0.04, 0.7, 0.1, 0.12, 0.66, 0.25, 0.0)
BUS = Shape(9.5, 2.5, 3.0, 1.2, 0.03, 0.03, 0.12, 0.06, 0.04, 0.95, 0.0, 0.0)
SHAPES = (HATCHBACK, HATCHBACK, SALOON, SALOON, VAN, BUS)


def _panel(rng: np.random.Generator, height: int, width: int, paint: npt.ArrayLike) -> Picture:
    """Lacquered sheet metal: lighter where it faces up and mirrors the sky, dirty at its lower edge."""
    fall = np.interp(np.linspace(0, 1, height), [0, 0.1, 0.35, 0.75, 1], [1.35, 1.15, 0.95, 0.72, 0.42])
    factor = fall.astype(np.float32)[:, None] * (1 + 0.05 * cloud(rng, height, width, 40, 3, 2.0))
    return painted(np.asarray(paint, np.float32) + np.float32(8), factor)


def _pane(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Car glass: dark inside with head rests, sky mirrored in its upper half."""
    fall = np.interp(np.linspace(0, 1, height), [0, 0.35, 0.6, 1], [1.9, 1.1, 0.5, 0.35]).astype(np.float32)[:, None]
    tone = float(rng.uniform(38, 85))
    streaks = 1 + 0.2 * cloud(rng, height, width, 40, 2, 2.0)
    glass = painted(np.array([0.92, 1.0, 1.04], np.float32) * tone, fall * streaks)
    for x in (0.3, 0.7):
        left, right = int((x - 0.09) * width), int((x + 0.09) * width)
        glass[height // 2 :, left:right] = (glass[height // 2 :, left:right] * 0.45).astype(np.uint8)
    return glass


def _rear(rng: np.random.Generator, paint: npt.ArrayLike, front: bool) -> Picture:
    """Lower rear or front, 64 rows from waist to sill: lamps, plate, bumper, grille."""
    picture = _panel(rng, 64, 128, paint)
    top, wide = int(rng.integers(3, 12)), int(rng.integers(11, 24))
    tall = 10 if front else int(rng.integers(12, 24))
    for side in (-1, 1):
        x0, x1 = (3, 3 + wide) if side < 0 else (125 - wide, 125)
        lamp = np.array([[x0, top], [x1, top], [x1, top + tall - 3], [x0, top + tall]], np.int32)
        cv2.fillPoly(picture, [lamp], (196, 202, 204) if front else (132, 16, 20))
        x = (x0 + x1) // 2
        cv2.rectangle(
            picture,
            (x - 3, top + tall // 3),
            (x + 3, top + tall // 3 + 4),
            (245, 245, 240) if front else (190, 70, 40),
            -1,
        )
    if front:
        cv2.rectangle(picture, (34, top + 1), (94, top + 10), (20, 20, 21), -1)
        cv2.rectangle(picture, (40, 44), (88, 54), (16, 16, 17), -1)
    picture[36:38] = (picture[36:38] * 0.45).astype(np.uint8)
    picture[38:42] = np.minimum(picture[38:42] * 1.3, 255).astype(np.uint8)
    y = int(rng.choice([24, 44]))
    cv2.rectangle(picture, (48, y), (80, y + 7), (200, 202, 196) if front else (204, 172, 40), -1)
    for x in range(51, 79, 4):
        cv2.line(picture, (x, y + 2), (x, y + 5), (50, 46, 34), 2)
    picture[56:] = (picture[56:] * 0.4).astype(np.uint8)
    return picture


def _side(rng: np.random.Generator, paint: npt.ArrayLike, shape: Shape) -> Picture:
    """Lower side, 64 rows: doors, handles, rubbing strip, dark wheel arches."""
    width = 256
    picture = _panel(rng, 64, width, paint)
    for x in (0.36, 0.58, 0.78):
        cv2.line(picture, (int(x * width), 2), (int(x * width), 54), (20, 20, 21), 1)
    for x in (0.54, 0.74):
        cv2.rectangle(picture, (int(x * width) - 8, 12), (int(x * width), 14), (22, 22, 22), -1)
    for x in (0.18, 0.82):
        cv2.ellipse(picture, (int(x * width), 66), (int(0.4 / shape.length * width), 38), 0, 0, 360, (10, 10, 11), -1)
    return picture


def _cabin(rng: np.random.Generator, paint: npt.ArrayLike, posts: int) -> Picture:
    """Side windows between painted posts."""
    picture = _panel(rng, 64, 256, np.asarray(paint) * 0.9)
    edges = np.linspace(0.03, 0.97, posts + 2)
    for left, right in itertools.pairwise(edges):
        x0, x1 = int((left + 0.012) * 256), int((right - 0.012) * 256)
        picture[7:62, x0:x1] = _pane(rng, 55, x1 - x0)
    return picture


def _framed(rng: np.random.Generator, paint: npt.ArrayLike) -> Picture:
    picture = _panel(rng, 48, 96, np.asarray(paint) * 0.9)
    picture[5:45, 6:90] = _pane(rng, 40, 84)
    return picture


def _wheel(rng: np.random.Generator) -> Picture:
    picture = np.full((48, 48, 3), 18, np.uint8)
    cv2.circle(picture, (24, 24), 15, (118, 120, 122), -1, cv2.LINE_AA)
    for angle in np.arange(0, 2 * np.pi, 2 * np.pi / int(rng.integers(5, 8))):
        cv2.circle(
            picture,
            (int(24 + 10 * np.sin(angle)), int(24 + 10 * np.cos(angle))),
            3,
            (44, 44, 46),
            -1,
            cv2.LINE_AA,
        )
    return picture


@dataclass(frozen=True)
class Vehicle:
    """A model around the origin, wheels on the ground; ``half`` (2,) is its half width and length."""

    faces: Faces
    half: npt.NDArray[np.float64]


def vehicle(rng: np.random.Generator, book: SpriteBook, shape: Shape) -> tuple[Vehicle, Vehicle]:
    """A vehicle seen nose away and the same one turned round, with its sprites added to the book."""
    paint = np.array(_PAINTS[rng.integers(len(_PAINTS))], np.float64) * rng.uniform(0.8, 1.1)
    if shape is BUS:
        paint = np.array(((150, 28, 30), (60, 110, 150), (190, 190, 184))[rng.integers(3)], np.float64)
    plain = _panel(rng, 32, 32, paint)
    sprites = {
        "rear": _rear(rng, paint, False),
        "front": _rear(rng, paint, True),
        "side": _side(rng, paint, shape),
        "cabin": _cabin(rng, paint, 6 if shape is BUS else 2),
        "screen": _framed(rng, paint),
        "back": _framed(rng, paint) if shape is not VAN else _panel(rng, 48, 96, paint),
        "top": painted(paint.astype(np.float32) * np.float32(1.25), np.ones(plain.shape[:2], np.float32)),
        "wheel": _wheel(rng),
        "under": np.full((8, 8, 3), 12, np.uint8),
    }
    numbers = {name: book.add(Sprite(picture)) for name, picture in sprites.items()}
    half = np.array([shape.width, shape.length]) / 2
    away = _body(shape, numbers)
    turned = np.array([-1.0, 1.0, -1.0])
    return Vehicle(away, half), Vehicle(
        Faces(
            **{
                **away.__dict__,
                "origin": away.origin * turned,
                "across": away.across * turned,
                "down": away.down * turned,
            }
        ),
        half,
    )


class _Panels:
    """Faces of one vehicle around its middle on the ground; the sprite of each goes by the panel's name."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.faces = FaceBuilder()
        self._numbers = numbers

    def add(
        self,
        name: str,
        origin: npt.ArrayLike,
        across: npt.ArrayLike,
        down: npt.ArrayLike,
        order: int = 1,
        outline: Outline = SQUARE,
    ) -> None:
        """A panel, invisible from behind; the vectors are (3,) in metres, ``outline`` is in shares of the two."""
        self.faces.add(
            np.asarray(origin, np.float64),
            np.asarray(across, np.float64),
            np.asarray(down, np.float64),
            self._numbers[name],
            CAR,
            np.zeros(3),
            order=order,
            one_sided=True,
            outline=outline,
        )


def _body(shape: Shape, numbers: dict[str, int]) -> Faces:
    panels = _Panels(numbers)
    _add_hull(shape, panels.add)
    _add_cabin(shape, panels.add)
    return panels.faces.build()


def _add_hull(shape: Shape, add: Callable[..., None]) -> None:
    """All below the waist line: ends, underside, sides, wheels."""
    hw, hl, sill = shape.width / 2, shape.length / 2, 0.2
    lower = shape.waist - sill
    nose, tail = shape.nose_drop, shape.tail_drop
    add("rear", [-hw, shape.waist - tail, -hl], [2 * hw, 0, 0], [0, tail - lower, 0])
    add("front", [hw, shape.waist - nose, hl], [-2 * hw, 0, 0], [0, nose - lower, 0])
    add("under", [-hw * 0.92, sill + 0.02, -hl * 0.9], [2 * hw * 0.92, 0, 0], [0, -sill, 0], 0)
    add("under", [hw * 0.92, sill + 0.02, hl * 0.9], [-2 * hw * 0.92, 0, 0], [0, -sill, 0], 0)
    profile = (
        (0.0, tail / lower),
        (shape.boot / shape.length, 0.0),
        (1 - shape.bonnet / shape.length, 0.0),
        (1.0, nose / lower),
        (1.0, 0.9),
        (0.98, 1.0),
        (0.02, 1.0),
        (0.0, 0.9),
    )
    mirrored = tuple((1 - u, v) for u, v in reversed(profile))
    add("side", [-hw, shape.waist, hl], [0, 0, -2 * hl], [0, -lower, 0], outline=mirrored)
    add("side", [hw, shape.waist, -hl], [0, 0, 2 * hl], [0, -lower, 0], outline=profile)
    for z in (hl * 0.64, -hl * 0.64):
        r = shape.wheel / 2
        add("wheel", [-hw - 0.01, 2 * r, z + r], [0, 0, -2 * r], [0, -2 * r, 0], 2, outline=DISC)
        add("wheel", [hw + 0.01, 2 * r, z - r], [0, 0, 2 * r], [0, -2 * r, 0], 2, outline=DISC)


def _add_cabin(shape: Shape, add: Callable[..., None]) -> None:
    """Bonnet, boot and roof, and the windows between them."""
    hw, hl, nose, tail = shape.width / 2, shape.length / 2, shape.nose_drop, shape.tail_drop
    front, back = hl - shape.bonnet, -hl + shape.boot
    roof_front, roof_back = front - shape.screen_slope, back + shape.rear_slope
    rise = shape.height - shape.waist
    top = hw - shape.inset
    add("top", [-hw, shape.waist - nose, hl], [2 * hw, 0, 0], [0, nose, -shape.bonnet], 0)
    add("top", [-hw, shape.waist, back], [2 * hw, 0, 0], [0, -tail, -shape.boot], 0)
    add("top", [-top, shape.height, roof_front], [2 * top, 0, 0], [0, 0, roof_back - roof_front], 3)
    slant = shape.inset / (2 * hw)
    trapezium = ((slant, 0.0), (1 - slant, 0.0), (1.0, 1.0), (0.0, 1.0))
    add(
        "back",
        [-hw, shape.height, roof_back],
        [2 * hw, 0, 0],
        [0, -rise, back - roof_back],
        3,
        outline=trapezium,
    )
    add(
        "screen",
        [hw, shape.height, roof_front],
        [-2 * hw, 0, 0],
        [0, -rise, front - roof_front],
        3,
        outline=trapezium,
    )
    span = front - back
    ahead, behind = shape.screen_slope / span, shape.rear_slope / span
    left = ((ahead, 0.0), (1 - behind, 0.0), (1.0, 1.0), (0.0, 1.0))
    right = ((behind, 0.0), (1 - ahead, 0.0), (1.0, 1.0), (0.0, 1.0))
    add("cabin", [-top, shape.height, front], [0, 0, -span], [-shape.inset, -rise, 0], 3, outline=left)
    add("cabin", [top, shape.height, back], [0, 0, span], [shape.inset, -rise, 0], 3, outline=right)


def footprint(
    place: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    forward: npt.NDArray[np.float64],
    half: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Corners (..., 4, 2) in x, z of boxes on the ground of half width and length ``half`` (..., 2)."""
    signs = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    corners = signs * np.asarray(half)[..., None, :]
    across, along = corners[..., :1] * right[..., None, :], corners[..., 1:] * forward[..., None, :]
    return np.asarray((place[..., None, :] + across + along)[..., [0, 2]])
