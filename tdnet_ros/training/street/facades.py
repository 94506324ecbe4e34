"""House fronts, walls and roofs, painted from a seed."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.atlas import Sprite
from tdnet_ros.training.street.noise import Grey, cloud, painted

#: Resolution of the fronts: fine enough for the nearest metre of wall that a camera on the road sees.
PX_PER_M = 26
_WALLS = (
    (118, 92, 78),
    (134, 110, 90),
    (100, 82, 72),
    (156, 138, 116),
    (146, 130, 110),
    (126, 118, 108),
    (224, 222, 214),
    (236, 230, 216),
    (166, 166, 162),
    (108, 104, 100),
    (128, 96, 82),
    (190, 176, 152),
)
_TRIMS = ((240, 240, 236), (206, 204, 198), (70, 66, 62), (250, 250, 246))
_SHOP_COLOURS = (
    (28, 62, 44),
    (120, 28, 30),
    (24, 34, 78),
    (34, 34, 36),
    (190, 170, 60),
    (170, 168, 160),
    (40, 90, 120),
    (96, 60, 36),
)
_DOORS = ((30, 40, 70), (110, 24, 24), (30, 60, 40), (40, 36, 34), (190, 188, 182), (80, 54, 36))

Canvas = npt.NDArray[np.float32]


def _fill(canvas: Canvas, x0: float, y0: float, x1: float, y1: float, colour: npt.ArrayLike) -> None:
    """Paint the box given in metres (y from the canvas's top)."""
    rows = slice(max(0, round(y0 * PX_PER_M)), max(0, round(y1 * PX_PER_M)))
    columns = slice(max(0, round(x0 * PX_PER_M)), max(0, round(x1 * PX_PER_M)))
    canvas[rows, columns] = np.asarray(colour, np.float32)


def _wall(rng: np.random.Generator, height: int, width: int, base: npt.ArrayLike) -> Canvas:
    """Brick or stone (height, width, 3): courses of single bricks, stains and a fall of dirt."""
    bricks = rng.standard_normal((height // 2 + 1, width // 6 + 2), np.float32)
    courses = np.asarray(cv2.resize(bricks, (width, height), interpolation=cv2.INTER_NEAREST), np.float32)
    odd = np.arange(height) // 2 % 2 == 1
    courses[odd] = np.roll(courses[odd], 3, axis=1)
    grain = rng.standard_normal((height, width), np.float32)
    # Bright walls are rendered: their bricks do not show.
    strength = float(rng.uniform(0.02, 0.13)) * (0.2 if np.mean(np.asarray(base)) > 175 else 1.0)
    factor = 1 + strength * courses + 0.05 * grain + 0.08 * cloud(rng, height, width, 90, 4, 0.6)
    factor *= np.linspace(0.94, 1.04, height, dtype=np.float32)[:, None]
    return np.asarray(np.asarray(base, np.float32) * factor[..., None], np.float32)


def _glass(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """A dark pane (height, width, 3) with what it mirrors: sky above, the other side of the street below."""
    top = float(rng.choice([26.0, 44.0, 80.0, 160.0], p=[0.45, 0.3, 0.15, 0.1]))
    fall = np.linspace(1.0, float(rng.uniform(0.25, 0.7)), height, dtype=np.float32)[:, None]
    mirror = top * fall * (1 + 0.22 * cloud(rng, height, width, max(height, width) / 2, 2, 0.5))
    pane = mirror[..., None] * np.array([0.92, 1.0, 1.06], np.float32)
    if rng.random() < 0.35:
        side = max(1, width // 5)
        pane[:, :side] = pane[:, -side:] = rng.uniform(70, 150)
    if rng.random() < 0.2:
        pane[: int(height * rng.uniform(0.2, 0.6))] = np.array([1.0, 0.97, 0.9]) * rng.uniform(110, 190)
    return np.asarray(pane, np.float32)


def _pane(canvas: Canvas, rng: np.random.Generator, x0: float, y0: float, x1: float, y1: float) -> None:
    rows = slice(max(0, round(y0 * PX_PER_M)), min(canvas.shape[0], round(y1 * PX_PER_M)))
    columns = slice(max(0, round(x0 * PX_PER_M)), min(canvas.shape[1], round(x1 * PX_PER_M)))
    height, width = rows.stop - rows.start, columns.stop - columns.start
    if height > 1 and width > 1:
        canvas[rows, columns] = _glass(rng, height, width)


def _window(
    canvas: Canvas, rng: np.random.Generator, x: float, y: float, w: float, h: float, trim: Grey, bars: int
) -> None:
    """A sash window with its reveal, frame, glazing bars, lintel and sill."""
    _fill(canvas, x - 0.12, y - 0.25, x + w + 0.12, y, trim * 0.86)
    _fill(canvas, x - 0.1, y + h, x + w + 0.1, y + h + 0.12, trim)
    _fill(canvas, x - 0.06, y + h + 0.12, x + w + 0.06, y + h + 0.2, trim * 0.3)
    _fill(canvas, x, y, x + w, y + h, trim * 0.95)
    frame = 0.08
    _pane(canvas, rng, x + frame, y + frame, x + w - frame, y + h - frame)
    _fill(canvas, x + frame, y + h / 2 - 0.03, x + w - frame, y + h / 2 + 0.03, trim * 0.9)
    for bar in range(1, bars + 1):
        centre = x + w * bar / (bars + 1)
        _fill(canvas, centre - 0.025, y + frame, centre + 0.025, y + h - frame, trim * 0.9)
    _fill(canvas, x, y, x + w, y + 0.07, trim * 0.25)


def _shop(canvas: Canvas, rng: np.random.Generator, width: float, top: float, bottom: float) -> None:
    """A shop across the ground floor: fascia with lettering, glass with goods, pillars, a door."""
    colour = np.array(_SHOP_COLOURS[rng.integers(len(_SHOP_COLOURS))], np.float32) * rng.uniform(0.7, 1.1)
    _fill(canvas, 0, top, width, bottom, colour * 0.8)
    board = top + float(rng.uniform(0.5, 0.75))
    _fill(canvas, 0.1, top + 0.06, width - 0.1, board, colour)
    ink = np.array([225, 220, 200], np.float32) if colour.mean() < 110 else colour * 0.25
    x = float(rng.uniform(0.3, width * 0.35))
    for _ in range(int(rng.integers(4, 14))):
        step = float(rng.uniform(0.14, 0.26))
        if rng.random() < 0.85 and x + step < width - 0.2:
            _fill(canvas, x, top + 0.2, x + 0.06, board - 0.12, ink)
            _fill(canvas, x, top + float(rng.uniform(0.2, 0.4)), x + step - 0.05, board - 0.2, ink * 0.85)
        x += step
    _fill(canvas, 0, board, width, board + 0.14, colour * 0.25)
    _pane(canvas, rng, 0.2, board + 0.14, width - 0.2, bottom - 0.35)
    for _ in range(int(rng.integers(10, 30))):
        gx, gy = float(rng.uniform(0.3, width - 0.6)), float(rng.uniform(board + 0.3, bottom - 0.7))
        goods = rng.uniform(15, 110) * rng.uniform(0.5, 1.5, 3)
        _fill(canvas, gx, gy, gx + float(rng.uniform(0.08, 0.5)), gy + float(rng.uniform(0.08, 0.4)), goods)
    for _ in range(int(rng.integers(0, 3))):
        gx = float(rng.uniform(0.3, width - 1.0))
        poster = np.array(((200, 40, 40), (220, 220, 215), (210, 190, 60))[rng.integers(3)], np.float32)
        _fill(canvas, gx, board + 0.5, gx + 0.5, board + 1.2, poster * 0.8)
    pillars = int(rng.integers(2, 5))
    for pillar in range(pillars + 1):
        x = (width - 0.25) * pillar / pillars
        _fill(canvas, x, board + 0.14, x + 0.14, bottom, colour * rng.uniform(0.7, 1.2))
    x = float(rng.uniform(0.4, max(0.5, width - 1.6)))
    _fill(canvas, x, board + 0.5, x + 1.0, bottom, np.array([26, 25, 24], np.float32))
    _fill(canvas, 0, bottom - 0.1, width, bottom, np.array([40, 39, 37], np.float32))


def facade(rng: np.random.Generator, shop: bool) -> tuple[Sprite, float, float]:
    """A front with its width and height in metres."""
    floors = int(rng.integers(2, 4)) if rng.random() < 0.75 else int(rng.integers(3, 5))
    ground, storey = float(rng.uniform(3.0, 3.6)), float(rng.uniform(2.6, 3.1))
    width, height = (
        float(rng.uniform(7.0, 13.0)),
        ground + storey * (floors - 1) + float(rng.uniform(0.5, 1.0)),
    )
    base = np.array(_WALLS[rng.integers(len(_WALLS))], np.float32) * rng.uniform(0.8, 1.1)
    trim = np.array(_TRIMS[rng.integers(len(_TRIMS))], np.float32)
    canvas = _wall(rng, round(height * PX_PER_M), round(width * PX_PER_M), base)
    _fill(canvas, 0, 0, width, 0.2, trim * 0.8)
    _fill(canvas, 0, 0.2, width, 0.32, base * 0.4)
    count = max(2, round(width / float(rng.uniform(2.0, 3.4))))
    w, h = float(rng.uniform(0.9, 1.5)), float(rng.uniform(1.4, 1.9))
    bars, ribbon = int(rng.integers(0, 3)), rng.random() < 0.15
    pitch = width / count
    for floor in range(floors):
        bottom = height - (ground + storey * (floor - 1) if floor else 0.0)
        if floor == 0 and shop:
            _shop(canvas, rng, width, bottom - ground + 0.25, bottom)
            continue
        door = int(rng.integers(count)) if floor == 0 else -1
        for column in range(count):
            centre = pitch * (column + 0.5)
            if column == door:
                colour = np.array(_DOORS[rng.integers(len(_DOORS))], np.float32)
                _fill(canvas, centre - 0.62, bottom - 2.5, centre + 0.62, bottom, trim * 0.8)
                _fill(canvas, centre - 0.48, bottom - 2.1, centre + 0.48, bottom, colour)
                _pane(canvas, rng, centre - 0.45, bottom - 2.45, centre + 0.45, bottom - 2.15)
            else:
                across = pitch * 0.92 if ribbon else min(w, pitch * 0.75)
                _window(canvas, rng, centre - across / 2, bottom - h - 0.85, across, h, trim, bars + 2 * ribbon)
        if floor and rng.random() < 0.4:
            _fill(canvas, 0, bottom - 0.12, width, bottom, trim * 0.75)
    for _ in range(int(rng.integers(0, 3))):
        x = float(rng.uniform(0.1, width - 0.2))
        _fill(canvas, x, 0.3, x + 0.09, height, base * 0.35)
    soot = 1 - 0.3 * np.exp(-np.linspace(height, 0, canvas.shape[0], dtype=np.float32) / 0.5)
    return Sprite(painted(canvas, soot[:, None].repeat(canvas.shape[1], 1))), width, height


def bare_wall(rng: np.random.Generator) -> Sprite:
    """A gable end of 10 m by 12 m, with a few small windows at most and stains from its edges."""
    px, width, height = 16, 10, 12
    base = np.array(_WALLS[rng.integers(len(_WALLS))], np.float32)
    canvas = _wall(rng, height * px, width * px, base)
    for x, y in rng.uniform([1, 4], [8, 9], (int(rng.integers(0, 5)), 2)) * px:
        left, top = int(x), int(y) // (2 * px) * 2 * px
        canvas[top - 2 : top + 23, left - 2 : left + 16] = base * 1.4
        canvas[top : top + 20, left : left + 14] = rng.uniform(22, 60)
    stains = 1 + 0.12 * cloud(rng, height * px, width * px, 60, 4)
    return Sprite(painted(canvas, stains))


def roof(rng: np.random.Generator) -> Sprite:
    """Slates or tiles, 10 m wide and 5 m up the slope."""
    base = np.array(((78, 78, 84), (96, 74, 62), (70, 66, 64))[rng.integers(3)], np.float32)
    canvas = _wall(rng, 5 * 16, 10 * 16, base)
    canvas[::5] *= 0.72
    return Sprite(painted(canvas, np.ones(canvas.shape[:2], np.float32)))
