"""The making of one cell of the street: seeded draws, and the pieces that plots and kerbside share."""

from __future__ import annotations

import itertools

import numpy as np

from tdnet_ros.labels import CAMVID
from tdnet_ros.training.street.camera import Floats, RoadPath
from tdnet_ros.training.street.faces import UP, Colour, FaceBuilder, Faces, join, moved
from tdnet_ros.training.street.layout import CELL_M, CELL_RING, CELL_SLOTS, FIRST_CELL_SLOT, Cell, Layout
from tdnet_ros.training.street.library import Library

BUILDING, POLE, TREE, SIGN, FENCE, BICYCLIST = (
    CAMVID.names.index(name) for name in ("building", "pole", "tree", "sign", "fence", "bicyclist")
)

#: Of a cell's slots so many are for single faces, the rest for models, each with room for so many faces.
_FACE_SLOTS, _MODEL_SLOTS = 1024, 32


class CellSketch:
    """A cell in the making: its random draws and the pieces that both its plots and its kerbside use."""

    def __init__(self, seed: int, number: int, path: RoadPath, layout: Layout, library: Library) -> None:
        self.rng = np.random.default_rng([seed, 11, abs(number), int(number < 0)])
        self.start = number * CELL_M
        self.path, self.layout, self.library = path, layout, library
        self.slot = FIRST_CELL_SLOT + number % CELL_RING * CELL_SLOTS
        self.faces = FaceBuilder(self.slot)
        self._models: list[tuple[Faces, Floats, Floats, Floats]] = []
        self.areas: list[tuple[str, Floats]] = []
        self.casters: list[Floats] = []
        self.contacts: list[Floats] = []

    def build(self) -> Cell:
        """The cell as it has been put together so far."""
        faces = self.faces.build()
        if self._models:
            models, places, rights, forwards = zip(*self._models, strict=True)
            slots = self.slot + _FACE_SLOTS + _MODEL_SLOTS * np.arange(len(models))
            moved_models = moved(models, np.array(places), np.array(rights), np.array(forwards), slots)
            faces = join([faces, moved_models])
        return Cell(
            faces,
            self.areas,
            np.array(self.casters, np.float64).reshape(-1, 5),
            np.array(self.contacts, np.float64).reshape(-1, 4, 2),
        )

    def stand(self, model: Faces, lateral: float, z: float) -> tuple[Floats, Floats, Floats]:
        """Put a model on the ground; its position and the street's right and forward there, each (3,)."""
        position = self.path.point(lateral, self.start + z)
        right, forward = self.path.frames(self.start + z)
        self._models.append((model, position, right, forward))
        return position, right, forward

    def chance(self, share: float) -> bool:
        """True with the probability ``share``."""
        return bool(self.rng.random() < share)

    def pick(self, numbers: list[int]) -> int:
        """One of these, each as likely as any other."""
        return numbers[int(self.rng.integers(len(numbers)))]

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return float(self.rng.uniform(low, high))

    def grey(self, low: float, high: float, hue: float = 0.05) -> Colour:
        """A tint, 1 for unchanged; ``hue`` is how far its channels lie apart (standard deviation)."""
        base = self.between(low, high) * (1 + self.rng.normal(0, hue, 3))
        return float(base[0]), float(base[1]), float(base[2])

    def area(self, material: str, side: int, near: float, far: float, z0: float, z1: float) -> None:
        """Ground from ``near`` to ``far`` m off the centre line on one side, over [z0, z1] in the cell."""
        z0, z1 = self.start + z0, self.start + z1
        corners = np.array([[side * near, z0], [side * far, z0], [side * far, z1], [side * near, z1]])
        self.areas.append((material, corners))

    def right(self, point: Floats) -> Floats:
        """The street's right (3,) where the point lies."""
        return self.path.frames(point[2])[0]

    def row(self, side: int, lateral: float, panel: float, height: float, sprites: list[int], label: int) -> None:
        """Panels of that width and height, in metres, along the whole cell: hedges, fences, walls."""
        sprite, tint = self.pick(sprites), self.grey(0.8, 1.1)
        ends = self.path.point(side * lateral, self.start + np.arange(0, CELL_M + 0.1, panel))
        for near, far in itertools.pairwise(ends):
            left, right = (near, far) if side < 0 else (far, near)
            self.faces.add(left + UP * height, right - left, -UP * height, sprite, label, far, tint)
        if label == TREE:
            self.casters.append(np.array([ends[0, 0], ends[0, 2], ends[-1, 0], ends[-1, 2], height]))

    def tree(self, side: int, lateral: float, z: float, scale: float, conifers: float = 0.2) -> None:
        """A tree ``lateral`` m off the centre line; 8.5 m high at ``scale`` 1, a conifer with that probability."""
        foot = self.path.point(side * lateral, self.start + z)
        height = 8.5 * scale * self.between(0.85, 1.15)
        kinds, aspect = self.library.leafy, 0.95
        if self.chance(conifers):
            kinds, aspect = self.library.conifers, 0.5
        elif self.chance(self.layout.bare_share):
            kinds = self.library.bare
        tint = self.grey(0.75, 1.15, 0.07)
        self.faces.upright(foot, self.right(foot), height * aspect, height, self.pick(kinds), TREE, foot, tint, 0, 0.45)
        crown = height * aspect * 0.35
        self.casters.append(np.array([foot[0] - crown, foot[2], foot[0] + crown, foot[2], height]))
