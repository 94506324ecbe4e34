"""Pedestrians and bicyclists: painted parts, and models whose legs swing as planes: their motion is exact."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import CAMVID
from tdnet_ros.training.street.atlas import Picture, Sprite, SpriteBook
from tdnet_ros.training.street.faces import UP, FaceBuilder, Faces
from tdnet_ros.training.street.noise import cloud, painted

PEDESTRIAN = CAMVID.names.index("pedestrian")
BICYCLIST = CAMVID.names.index("bicyclist")
_COATS = (
    (24, 24, 28),
    (30, 31, 36),
    (20, 20, 22),
    (40, 36, 34),
    (70, 24, 28),
    (28, 36, 60),
    (74, 76, 80),
    (24, 36, 32),
    (34, 34, 40),
    (150, 148, 144),
)
_TROUSERS = ((24, 26, 32), (38, 48, 72), (46, 58, 86), (40, 38, 36), (24, 24, 25), (92, 86, 76))
_SKIN = ((150, 112, 92), (172, 132, 108), (96, 66, 50))
_HAIR = ((34, 26, 20), (20, 18, 16), (92, 72, 48), (110, 104, 98))

Points = list[tuple[float, float]]


def _shade(rng: np.random.Generator, mask: Picture, colour: npt.ArrayLike) -> Picture:
    """Cloth of one colour over the mask's box, rounded: darker to the right and in its folds."""
    height, width = mask.shape
    across = np.linspace(1.25, 0.65, width, dtype=np.float32)[None]
    return painted(np.asarray(colour, np.float32), across * (1 + 0.07 * cloud(rng, height, width, 18, 3, 0.4)))


def _polygon(mask: Picture, points: Points, value: int = 255) -> None:
    height, width = mask.shape
    corners = np.round(np.array(points) * [width, height] * 8).astype(np.int32)
    cv2.fillPoly(mask, [corners], value, cv2.LINE_AA, 3)


def _any(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...]) -> npt.NDArray[np.float64]:
    return np.array(colours[rng.integers(len(colours))], np.float64) * rng.uniform(0.55, 1.05)


def upper_body(rng: np.random.Generator, leaning: bool) -> Sprite:
    """Head, trunk and arms along the street, 0.62 m by 0.95 m; a rider's arms reach down and out."""
    height, width = 128, 80
    coat = np.zeros((height, width), np.uint8)
    wide = float(rng.uniform(0.0, 0.05))
    right: Points = [(0.5, 0.24), (0.57, 0.25), (0.71 + wide, 0.31), (0.71 + wide, 0.6), (0.69, 1.0), (0.5, 1.0)]
    if leaning:
        arm: Points = [(0.66, 0.31), (0.82 + wide, 0.42), (0.96, 0.7), (0.84, 0.92), (0.76, 0.9), (0.82, 0.68)]
    else:
        swing = float(rng.uniform(-0.02, 0.05))
        arm = [(0.66, 0.3), (0.78 + wide, 0.38), (0.85 + swing, 0.95), (0.76, 0.97), (0.7, 0.5)]
    for shape in (right, arm):
        _polygon(coat, shape)
        _polygon(coat, [(1 - u, v) for u, v in shape])
    picture = _shade(rng, coat, _any(rng, _COATS))
    head = np.zeros_like(coat)
    cv2.ellipse(head, (40, 17), (10, 14), 0, 0, 360, 255, -1, cv2.LINE_AA)
    cv2.rectangle(head, (35, 26), (45, 36), 255, -1)
    face = _shade(rng, head, _any(rng, _SKIN))
    hair = _shade(rng, head, _any(rng, _HAIR))
    picture[:20] = hair[:20]
    start = 10 if rng.random() < 0.5 else 24
    picture[start:34] = face[start:34]
    if not leaning and rng.random() < 0.4:
        bag = (slice(48, 88), slice(26, 54)) if rng.random() < 0.5 else (slice(80, 126), slice(4, 22))
        picture[bag] = _any(rng, _COATS)
        coat[bag] = 255
    return Sprite(picture, np.maximum(coat, head))


def leg(rng: np.random.Generator, cloth: npt.ArrayLike) -> Sprite:
    """One leg with its shoe, 0.24 m by 0.9 m."""
    mask = np.zeros((128, 36), np.uint8)
    _polygon(mask, [(0.08, 0), (0.92, 0), (0.78, 0.5), (0.68, 0.93), (0.8, 1), (0.24, 1), (0.32, 0.93), (0.22, 0.5)])
    picture = _shade(rng, mask, cloth)
    picture[116:] = (20, 18, 17)
    return Sprite(picture, mask)


def wheel_from_behind(rng: np.random.Generator) -> Sprite:
    """Rear wheel, mudguard and saddle of a bicycle, 0.5 m by 0.95 m."""
    mask = np.zeros((128, 64), np.uint8)
    _polygon(mask, [(0.43, 0.32), (0.57, 0.32), (0.56, 1.0), (0.44, 1.0)])
    _polygon(mask, [(0.3, 0.0), (0.7, 0.0), (0.62, 0.12), (0.38, 0.12)])
    _polygon(mask, [(0.46, 0.1), (0.54, 0.1), (0.54, 0.4), (0.46, 0.4)])
    picture = _shade(rng, mask, (26, 26, 27))
    picture[44:52, 26:38] = (170, 30, 30)
    return Sprite(picture, mask)


def parked_bicycle(rng: np.random.Generator) -> Sprite:
    """A bicycle from its side, 1.7 m by 1.05 m; the label covers the wheels' discs."""
    visible = np.zeros((126, 204), np.uint8)
    wheels = (41, 85), (162, 85)
    for wheel in wheels:
        cv2.circle(visible, wheel, 37, 255, 4, cv2.LINE_AA)
        for angle in np.arange(0, np.pi, np.pi / 5):
            reach = 36 * np.array([np.cos(angle), np.sin(angle)])
            ends = np.round(np.array([wheel - reach, wheel + reach])).astype(int)
            cv2.line(visible, ends[0].tolist(), ends[1].tolist(), 130, 1, cv2.LINE_AA)
    frame = [
        (41, 85),
        (92, 88),
        (78, 32),
        (41, 85),
        (78, 32),
        (140, 30),
        (92, 88),
        (140, 30),
        (137, 18),
        (162, 85),
    ]
    cv2.polylines(visible, [np.array(frame, np.int32)], False, 255, 5, cv2.LINE_AA)
    cv2.line(visible, (62, 22), (92, 22), 255, 7)
    cv2.line(visible, (128, 14), (152, 18), 255, 5)
    region = visible.copy()
    for wheel in wheels:
        cv2.circle(region, wheel, 39, 255, -1)
    cv2.fillPoly(region, [np.array([(41, 85), (78, 24), (140, 24), (162, 85)], np.int32)], 255)
    colour = _any(rng, ((30, 30, 32), (70, 24, 26), (30, 44, 76), (60, 62, 60)))
    picture = painted(np.asarray(colour, np.float32), 0.9 + 0.3 * cloud(rng, 126, 204, 40, 3))
    return Sprite(picture, visible, region)


@dataclass(frozen=True)
class Person:
    """Sprite numbers of one person's parts; ``wheel`` and ``bicycle`` are set for riders."""

    body: int
    leg: int
    wheel: int | None = None
    bicycle: int | None = None


def pedestrian(rng: np.random.Generator, book: SpriteBook) -> Person:
    """Somebody on foot; what they wear is added to the book."""
    return Person(book.add(upper_body(rng, False)), book.add(leg(rng, _any(rng, _TROUSERS))))


def bicyclist(rng: np.random.Generator, book: SpriteBook) -> Person:
    """Somebody on a bicycle, with its wheel and frame."""
    body, legs = book.add(upper_body(rng, True)), book.add(leg(rng, _any(rng, _TROUSERS)))
    return Person(body, legs, book.add(wheel_from_behind(rng)), book.add(parked_bicycle(rng)))


_RIGHT = np.array([1.0, 0.0, 0.0])


def walking(person: Person, stride: float, sideways: bool, size: float) -> Faces:
    """The person at the origin at phase ``stride`` (rad) of a step; ``sideways`` walks across the view."""
    build, origin = FaceBuilder(), np.zeros(3)
    hip = 0.9 * size
    for side in (-1.0, 1.0):
        swing = 0.34 * float(np.sin(stride)) * side
        lean = np.array([np.sin(swing), -np.cos(swing), 0.0])
        down = (lean if sideways else lean[[2, 1, 0]]) * hip
        offset = _RIGHT * (0.02 if sideways else 0.11) * side * size
        wide = _RIGHT * 0.24 * size
        build.add(offset - wide / 2 + UP * hip, wide, down, person.leg, PEDESTRIAN, origin, order=0, sunlit=0.4)
    width = (0.46 if sideways else 0.64) * size
    build.upright(UP * 0.82 * size, _RIGHT, width, 0.95 * size, person.body, PEDESTRIAN, origin, order=1, sunlit=0.4)
    return build.build()


def riding(person: Person, crank: float) -> Faces:
    """The bicyclist at the origin at phase ``crank`` (rad), seen along the street."""
    build, origin = FaceBuilder(), np.zeros(3)
    assert person.wheel is not None and person.bicycle is not None
    # Two crossed planes: the wheel end on, and the whole bicycle along the street for the view from one side.
    start, length = np.array([0.0, 1.05, -0.85]), np.array([0.0, 0.0, 1.7])
    build.add(start, length, -UP * 1.05, person.bicycle, BICYCLIST, origin, order=0, sunlit=0.4)
    build.upright(UP * 0.0, _RIGHT, 0.5, 0.98, person.wheel, BICYCLIST, origin, order=1, sunlit=0.4)
    for side in (-1.0, 1.0):
        rise = 0.14 * float(np.sin(crank)) * side
        top = _RIGHT * 0.13 * side + UP * (1.06 + rise / 2)
        build.add(
            top - _RIGHT * 0.09,
            _RIGHT * 0.18,
            -UP * (0.8 - rise / 2),
            person.leg,
            BICYCLIST,
            origin,
            order=2,
            sunlit=0.4,
        )
    build.upright(UP * 0.98, _RIGHT, 0.66, 0.78, person.body, BICYCLIST, origin, order=3, sunlit=0.4)
    return build.build()
