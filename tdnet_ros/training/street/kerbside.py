"""What stands on the pavement and along the kerb: lamps, signs, bollards, bicycles, railings, parked cars."""

from __future__ import annotations

import numpy as np

from tdnet_ros.labels import UNLABELLED
from tdnet_ros.training.street import furniture
from tdnet_ros.training.street.faces import DISC, SQUARE, UP
from tdnet_ros.training.street.layout import CELL_M
from tdnet_ros.training.street.people import walking
from tdnet_ros.training.street.sketch import BICYCLIST, FENCE, POLE, SIGN, CellSketch
from tdnet_ros.training.street.vehicles import footprint


class Kerbside(CellSketch):
    """Adds the kerbside of a cell."""

    def line_kerb(self, side: int, junction: bool) -> None:
        """Add what stands between the road and the plots on one side."""
        if not junction:
            self._rails(side)
            self._parked(side)
        self._furniture(side, junction)

    def _rails(self, side: int) -> None:
        if self.chance(self.layout.rails) and not self.layout.parking[side]:
            self.row(side, self.layout.kerb[side] + 0.35, 2.0, 1.05, self.library.railings, FENCE)

    def _parked(self, side: int) -> None:
        share = self.layout.parking[side]
        z = self.between(0.0, 2.0) + 2.5
        while share and z < CELL_M - 2.0:
            if self.chance(share):
                fleet = self.library.away if side < 0 or self.chance(0.3) else self.library.towards
                choice = int(self.rng.integers(len(fleet) - 1))
                vehicle = fleet[choice]
                lateral = side * (self.layout.kerb[side] - 1.05)
                self.contacts.append(footprint(*self.stand(vehicle.faces, lateral, z), vehicle.half))
            z += self.between(5.2, 7.5)

    def _furniture(self, side: int, junction: bool) -> None:
        kerb, front = self.layout.kerb[side], self.layout.front[side]
        z = self.between(1, 8)
        self._lamp(side, kerb + 0.4, z)
        if self.chance(0.75) or junction:
            self._signpost(side, kerb + 0.5, self.between(9, 23), junction)
        if self.chance(0.55):
            for z in np.arange(self.between(0, 6), CELL_M, self.between(3.0, 6.0)):
                foot = self.path.point(side * (kerb + 0.3), self.start + float(z))
                self.faces.upright(
                    foot, self.right(foot), 0.13, 1.0, self.pick(self.library.bollards), POLE, sunlit=0.4
                )
        if self.chance(0.3):
            foot = self.path.point(side * (kerb + 0.6), self.start + self.between(0, CELL_M))
            self.faces.upright(foot, self.right(foot), 0.55, 1.0, self.pick(self.library.bins), UNLABELLED, sunlit=0.3)
        if self.chance(0.35):
            z = self.between(2, 18)
            for _ in range(int(self.rng.integers(1, 4))):
                near = self.path.point(side * (front - 0.3), self.start + z)
                step = self.path.point(side * (front - 0.3 - self.between(0, 0.3)), self.start + z + 1.7) - near
                left, across = (near, step) if side < 0 else (near + step, -step)
                sprite = self.pick(self.library.bicycles)
                self.faces.add(left + UP * 1.05, across, -UP * 1.05, sprite, BICYCLIST, near + step, sunlit=0.4)
                z += self.between(0.5, 2.0)
        if self.chance(0.5):
            person = self.library.walkers[int(self.rng.integers(len(self.library.walkers)))]
            model = walking(person, self.between(0, 6), True, self.between(0.93, 1.05))
            self.stand(model, side * self.between(kerb + 0.5, front - 0.4), self.between(0, CELL_M))
        for z in np.arange(self.between(2, 9), CELL_M, 9.0):
            if self.chance(self.layout.street_trees):
                self.tree(side, kerb + 0.8, float(z), self.between(0.7, 1.0), conifers=0.0)

    def _lamp(self, side: int, lateral: float, z: float) -> None:
        foot = self.path.point(side * lateral, self.start + z)
        right, sprite, height = self.right(foot), self.pick(self.library.poles), self.between(5.5, 8.0)
        self.faces.upright(foot, right, 0.14, height, sprite, POLE, sunlit=0.5)
        reach = self.between(0.6, 1.8)
        arm = foot + UP * (height - 0.1) - right * side * reach / 2
        self.faces.upright(arm, right, reach, 0.09, sprite, POLE, foot, sunlit=0.2)
        lamp = foot + UP * (height - 0.16) - right * side * reach
        self.faces.upright(lamp, right, 0.6, 0.16, sprite, POLE, foot, (1.3, 1.3, 1.3), 1, 0.6)

    def _signpost(self, side: int, lateral: float, z: float, junction: bool) -> None:
        foot = self.path.point(side * lateral, self.start + z)
        right = self.right(foot)
        height = self.between(2.4, 3.4)
        self.faces.upright(foot, right, 0.1, height, self.pick(self.library.poles), POLE, sunlit=0.4)
        if junction:
            for sprite in self.library.lights[:1]:
                self.faces.upright(
                    foot + UP * (height - 1.0), right, 0.42, 1.0, sprite, SIGN, foot, order=1, sunlit=0.4
                )
            return
        draw = self.rng.random()
        sprites, outline = (self.library.discs, DISC) if draw < 0.4 else (self.library.boards, SQUARE)
        if draw > 0.85:
            sprites, outline = self.library.triangles, furniture.TRIANGLE
        width = self.between(0.6, 0.8) if draw < 0.4 or draw > 0.85 else self.between(0.5, 1.2)
        tall = width if draw < 0.4 or draw > 0.85 else self.between(0.5, 0.9)
        self.faces.upright(
            foot + UP * (height - tall),
            right,
            width,
            tall,
            self.pick(sprites),
            SIGN,
            foot,
            order=1,
            sunlit=0.45,
            outline=outline,
        )
