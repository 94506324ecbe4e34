"""What stands along the street: cells built from the seed and their number alone, so any can come first."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tdnet_ros.training.street.camera import RoadPath
from tdnet_ros.training.street.faces import Faces, join
from tdnet_ros.training.street.kerbside import Kerbside
from tdnet_ros.training.street.layout import CELL_M, CELL_RING, Cell, Layout
from tdnet_ros.training.street.library import Library
from tdnet_ros.training.street.plots import Plots


class _CellBuilder(Plots, Kerbside):
    def furnished(self) -> Cell:
        for side in (-1, 1):
            junction = self.plot(side)
            self.line_kerb(side, junction)
        return self.build()


class Scenery:
    """Cells of one street, built on demand."""

    def __init__(self, seed: int, path: RoadPath, layout: Layout, library: Library) -> None:
        self._build = lru_cache(maxsize=2 * CELL_RING)(
            lambda number: _CellBuilder(seed, number, path, layout, library).furnished()
        )

        self._joined = lru_cache(maxsize=4)(self._join)

    def cells(self, first_z: float, last_z: float) -> tuple[list[Cell], Faces]:
        """The cells that meet [first_z, last_z] metres along the street, near to far, and all their faces."""
        return self._joined(int(np.floor(first_z / CELL_M)), int(np.floor(last_z / CELL_M)))

    def _join(self, first: int, last: int) -> tuple[list[Cell], Faces]:
        cells = [self._build(number) for number in range(first, last + 1)]
        return cells, join([cell.faces for cell in cells])
