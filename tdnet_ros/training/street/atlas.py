"""All pictures of the street in one sheet, each shrunk along both axes independently.

One sheet lets a single remap colour a whole frame. Facades are seen at grazing angles: shrinking width and
height separately keeps them sharp one way without flicker the other way, which a square pyramid cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]

#: Halvings along each axis and the border (px) that keeps interpolation inside a picture.
LEVELS = 6
_BORDER = 2


@dataclass(frozen=True)
class Sprite:
    """A picture (h, w, 3) uint8 RGB, and for ragged shapes what of it is visible and what of it is labelled.

    ``visible`` and ``region`` are (h, w) uint8, 0 or 255. ``region`` is the part that carries the label,
    which for bare crowns is larger than the twigs that are visible (as people label them); None means the
    same as ``visible``. ``framed``: the label covers the face's whole outline, as for railings. With neither,
    the outline is the shape.
    """

    picture: Picture
    visible: Picture | None = None
    region: Picture | None = None
    framed: bool = False


@dataclass
class SpriteBook:
    """Sprites by number, in the order in which they were added."""

    sprites: list[Sprite] = field(default_factory=list)

    def add(self, sprite: Sprite) -> int:
        """The sprite's number."""
        self.sprites.append(sprite)
        return len(self.sprites) - 1


class Atlas:
    """The sheet and where in it each sprite's sizes lie."""

    def __init__(self, sprites: list[Sprite], sheet_width: int = 4096) -> None:
        sizes = [_steps(s.picture.shape[1]) for s in sprites], [_steps(s.picture.shape[0]) for s in sprites]
        self.widths = np.array([[w for w, _ in steps] for steps in sizes[0]], np.float64)
        self.heights = np.array([[h for h, _ in steps] for steps in sizes[1]], np.float64)
        lefts = np.array([[x for _, x in steps] for steps in sizes[0]], np.float64)
        tops = np.array([[y for _, y in steps] for steps in sizes[1]], np.float64)
        blocks = [
            (int(w.sum()) + 2 * _BORDER * LEVELS, int(h.sum()) + 2 * _BORDER * LEVELS)
            for w, h in zip(self.widths, self.heights, strict=False)
        ]
        places, height = _shelves(blocks, sheet_width)
        self.lefts = lefts + places[:, :1]
        self.tops = tops + places[:, 1:]
        self.sheet: Picture = np.zeros((height, sheet_width, 3), np.uint8)
        self.visible: list[list[Picture] | None] = []
        self.region: list[list[Picture] | None] = []
        self.framed = [sprite.framed for sprite in sprites]
        for number, sprite in enumerate(sprites):
            self._place(number, sprite.picture)
            self.visible.append(_pyramid(sprite.visible))
            self.region.append(_pyramid(sprite.region))

    def _place(self, number: int, picture: Picture) -> None:
        row = picture
        for down in range(LEVELS):
            cell = row
            for across in range(LEVELS):
                x, y = int(self.lefts[number, across]) - _BORDER, int(self.tops[number, down]) - _BORDER
                edged = cv2.copyMakeBorder(cell, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
                self.sheet[y : y + edged.shape[0], x : x + edged.shape[1]] = edged
                cell = _halved(cell, across=True)
            row = _halved(row, across=False)

    def levels(
        self,
        sprite: npt.NDArray[np.intp],
        across_px: npt.NDArray[np.float64],
        down_px: npt.NDArray[np.float64],
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Halvings (across, down), each (N,), that bring sprites nearest to their size in the picture."""
        return (
            _level(self.widths[sprite, 0], across_px),
            _level(self.heights[sprite, 0], down_px),
        )


def _level(texels: npt.NDArray[np.float64], pixels: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    # Rounded up early: a slightly soft picture looks like a lens, a slightly sharp one flickers.
    level = np.ceil(np.log2(texels / np.maximum(pixels, 1.0)) - 0.6)
    return np.clip(level, 0, LEVELS - 1).astype(np.intp)


def _steps(size: int) -> list[tuple[int, int]]:
    """(size, offset) of a picture axis and its halvings, laid side by side with borders."""
    steps, offset = [], _BORDER
    for _ in range(LEVELS):
        steps.append((size, offset))
        offset += size + 2 * _BORDER
        size = max(1, size // 2)
    return steps


def _halved(picture: Picture, across: bool) -> Picture:
    height, width = picture.shape[:2]
    size = (max(1, width // 2), height) if across else (width, max(1, height // 2))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _pyramid(mask: Picture | None) -> list[Picture] | None:
    if mask is None:
        return None
    levels = [mask]
    while len(levels) < LEVELS:
        levels.append(_halved(_halved(levels[-1], across=True), across=False))
    return levels


def _shelves(blocks: list[tuple[int, int]], width: int) -> tuple[npt.NDArray[np.float64], int]:
    """Top left corners (N, 2) of blocks packed in rows, tallest first, and the height they need."""
    places = np.zeros((len(blocks), 2))
    x = y = shelf = 0
    for number in sorted(range(len(blocks)), key=lambda n: -blocks[n][1]):
        block_width, block_height = blocks[number]
        if x + block_width > width:
            x, y, shelf = 0, y + shelf, 0
        places[number] = x, y
        x += block_width
        shelf = max(shelf, block_height)
    return places, y + shelf
