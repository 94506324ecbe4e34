"""Measures of a street and of the 24 m cells it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tdnet_ros.training.street.camera import Floats
from tdnet_ros.training.street.faces import Faces

CELL_M = 24.0
#: Slots one cell may use, and after how many cells they are used again (more than are ever visible at once).
CELL_SLOTS, CELL_RING = 2048, 16
FIRST_CELL_SLOT = 8192


@dataclass(frozen=True)
class Layout:
    """Lateral measures in metres by side (left -1, right +1), and the seed's habits."""

    kerb: dict[int, float]
    front: dict[int, float]
    parking: dict[int, float]  # share of parking places taken
    zones: tuple[float, float, float, float]  # shares of terraces, houses, parks, side streets
    shops: float
    street_trees: float
    rails: float
    bare_share: float


def make_layout(rng: np.random.Generator) -> Layout:
    """The measures of one street, in metres, drawn once for its whole length."""
    parking = {side: float(rng.uniform(0.35, 0.9)) if rng.random() < 0.55 else 0.0 for side in (-1, 1)}
    kerb = {side: float(rng.uniform(2.9, 3.6)) + (2.1 if parking[side] else 0.0) for side in (-1, 1)}
    front = {side: kerb[side] + float(rng.uniform(2.0, 5.0)) for side in (-1, 1)}
    shares = rng.dirichlet([8.0, 3.4, 4.2, 0.8])
    return Layout(
        kerb,
        front,
        parking,
        (float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])),
        float(rng.uniform(0.2, 0.9)),
        float(rng.choice([0.0, 0.3, 0.9])),
        float(rng.uniform(0.05, 0.4)),
        float(rng.choice([0.15, 0.6, 0.9])),
    )


@dataclass(frozen=True)
class Cell:
    """One cell's faces, its ground areas (material name, corners (4, 2) lateral and z) and what casts shade.

    ``casters`` (N, 5) are base lines in x, z and the height in metres; ``contacts`` (N, 4, 2) are footprints
    in x, z.
    """

    faces: Faces
    areas: list[tuple[str, Floats]]
    casters: Floats
    contacts: Floats
