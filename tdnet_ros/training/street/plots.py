"""What lies beyond the pavement: terraces, houses with gardens, parks and side streets."""

from __future__ import annotations

import itertools

import numpy as np

from tdnet_ros.training.street.faces import UP
from tdnet_ros.training.street.layout import CELL_M
from tdnet_ros.training.street.library import Front
from tdnet_ros.training.street.sketch import BUILDING, FENCE, SIGN, TREE, CellSketch


class Plots(CellSketch):
    """Adds the plots of a cell."""

    def plot(self, side: int) -> bool:
        """Add what lies beyond the pavement on one side; true for a side street, which cuts the kerb."""
        front = self.layout.front[side]
        kind = int(self.rng.choice(4, p=self.layout.zones))
        if kind == 0:
            self.area("forecourt", side, front - 0.1, 60, 0, CELL_M)
            self._terrace(side, front)
        elif kind == 1:
            self._houses(side, front + self.between(2.5, 6.0))
            self._boundary(side, front, hedge_share=0.45)
        elif kind == 2:
            self._park(side, front)
        else:
            self._side_street(side, front)
        return kind == 3

    def _terrace(self, side: int, front: float) -> None:
        cuts = np.array([0.0, self.between(7, 9), self.between(14.5, 17), CELL_M])
        if self.chance(0.4):
            cuts = np.array([0.0, self.between(10, 14), CELL_M])
        for z0, z1 in itertools.pairwise(cuts):
            fronts = self.library.shops if self.chance(self.layout.shops) else self.library.homes
            self._house(side, front + self.between(0, 0.35), float(z0), float(z1), fronts)

    def _houses(self, side: int, front: float) -> None:
        self._house(side, front, self.between(0, 3), self.between(9.5, 11.5), self.library.homes)
        if self.chance(0.8):
            self._house(
                side,
                front + self.between(-1, 1),
                self.between(13, 15),
                self.between(21, 24),
                self.library.homes,
            )
        for _ in range(int(self.rng.integers(0, 3))):
            self.tree(side, front - self.between(1.0, 2.0), self.between(0, CELL_M), self.between(0.4, 0.75))
        self._wood(side, front + 12, 0.8)

    def _house(self, side: int, lateral: float, z0: float, z1: float, fronts: list[Front]) -> None:
        """A front with its gable end, roof and chimneys, standing from z0 to z1 in the cell."""
        front = min(
            (fronts[int(i)] for i in self.rng.integers(len(fronts), size=2)),
            key=lambda f: abs(f.width - z1 + z0),
        )
        height, depth = front.height * self.between(0.92, 1.12), self.between(8, 11)
        near = self.path.point(side * lateral, self.start + z0)
        far = self.path.point(side * lateral, self.start + z1)
        left, right = (near, far) if side < 0 else (far, near)
        across, tint = right - left, self.grey(0.75, 1.15)
        self.faces.add(left + UP * height, across, -UP * height, front.sprite, BUILDING, far, tint, one_sided=True)
        back = self.path.point(side * (lateral + depth), self.start + z0) - near
        wall_left, wall_across = (near + back, -back) if side < 0 else (near, back)
        pitched = self.chance(0.7)
        rise = self.between(1.8, 3.4) if pitched else 0.4
        eaves = rise / (height + rise)
        gable = ((0.0, eaves), (0.5, 0.0), (1.0, eaves), (1.0, 1.0), (0.0, 1.0))
        self.faces.add(
            wall_left + UP * (height + rise),
            wall_across,
            -UP * (height + rise),
            self.pick(self.library.walls),
            BUILDING,
            far,
            self.grey(0.6, 1.0),
            one_sided=True,
            outline=gable if pitched else ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
        )
        if pitched:
            ridge = left + back / 2 + UP * (height + rise)
            self.faces.add(
                ridge,
                across,
                left + UP * (height - 0.1) - ridge - back * 0.04,
                self.pick(self.library.roofs),
                BUILDING,
                far,
                self.grey(0.8, 1.1),
                one_sided=True,
                order=1,
            )
            for where in (0.12, 0.88):
                if self.chance(0.6):
                    foot = left + across * where + back / 2 + UP * (height + rise - 0.7)
                    sprite, shade = self.pick(self.library.walls), self.grey(0.6, 0.9)
                    outward = back / np.linalg.norm(back)
                    along = across / np.linalg.norm(across)
                    self.faces.upright(foot, outward * side, 0.9, 1.9, sprite, BUILDING, far, shade, 2)
                    self.faces.upright(foot - outward * 0.4, along, 0.7, 1.9, sprite, BUILDING, far, shade, 2)
        self.casters.append(np.array([near[0], near[2], far[0], far[2], height + rise / 2]))
        if self.chance(0.8 * self.layout.shops):
            foot = self.path.point(side * (lateral - 0.55), self.start + self.between(z0, z1))
            foot = foot + UP * self.between(2.6, 3.6)
            self.faces.upright(
                foot, self.right(foot), 0.8, self.between(0.5, 0.9), self.pick(self.library.boards), SIGN
            )

    def _park(self, side: int, front: float) -> None:
        self._wood(side, front + self.between(9, 16), self.between(0.8, 1.3))
        for _ in range(int(self.rng.integers(1, 5))):
            self.tree(side, front + self.between(1.2, 6.0), self.between(0, CELL_M), self.between(0.6, 1.15))
        self._boundary(side, front, hedge_share=0.4)

    def _wood(self, side: int, lateral: float, scale: float) -> None:
        near = self.path.point(side * lateral, self.start - 1.0)
        far = self.path.point(side * lateral, self.start + CELL_M + 1.0)
        left, right = (near, far) if side < 0 else (far, near)
        height = 9.0 * scale
        sprite = self.pick(self.library.woods)
        self.faces.add(
            left + UP * height,
            right - left,
            -UP * height,
            sprite,
            TREE,
            far + (far - near) * 0.05,
            self.grey(0.7, 1.1),
            sunlit=0.4,
        )

    def _boundary(self, side: int, lateral: float, hedge_share: float) -> None:
        """Hedge, planks, railings or nothing along the back of the pavement."""
        draw = self.rng.random()
        if draw < hedge_share:
            self.row(side, lateral + 0.4, 6.0, self.between(1.1, 2.0), self.library.hedges, TREE)
        elif draw < hedge_share + 0.22:
            self.row(side, lateral, 3.0, self.between(1.0, 1.8), self.library.planks, FENCE)
        elif draw < hedge_share + 0.45:
            self.row(side, lateral, 2.0, 1.1, self.library.railings, FENCE)

    def _side_street(self, side: int, front: float) -> None:
        z0, z1 = 7.0, self.between(14.0, 17.0)
        self.area("forecourt", side, front - 0.1, 60, 0, CELL_M)
        self.area("side_road", side, self.layout.kerb[side] - 0.5, 60, z0, z1)
        shops = self.library.shops
        self._house(side, front + 0.2, z1 + 2.5, CELL_M, shops)
        self._house(side, front + 0.2, -0.5, z0 - 2.0, shops)
        for lateral in (24.0, 38.0):
            self.tree(side, lateral, self.between(z0 - 4, z1 + 6), self.between(0.8, 1.2))
