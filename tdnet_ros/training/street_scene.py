"""What stands along the street: 24 m cells, each built from the seed and its number alone, so any can come first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tdnet_ros.labels import CAMVID, UNLABELLED
from tdnet_ros.training import street_furniture as furniture
from tdnet_ros.training.street_camera import Floats, RoadPath
from tdnet_ros.training.street_faces import UP, Colour, FaceBuilder, Faces, join, moved
from tdnet_ros.training.street_library import Front, Library
from tdnet_ros.training.street_people import walking

CELL_M = 24.0
#: Slots one cell may use, and after how many cells they are used again (more than are ever visible at once).
CELL_SLOTS, CELL_RING = 2048, 16
FIRST_CELL_SLOT = 8192

BUILDING, POLE, TREE, SIGN, FENCE, BICYCLIST = (
    CAMVID.names.index(name) for name in ("building", "pole", "tree", "sign", "fence", "bicyclist")
)


@dataclass(frozen=True)
class Layout:
    """Lateral measures in metres, by side (left -1, right +1): kerb, house line, parking; and the seed's habits."""

    kerb: dict[int, float]
    front: dict[int, float]
    parking: dict[int, float]  # share of parking places taken
    zones: tuple[float, float, float, float]  # shares of terraces, houses, parks, side streets
    shops: float
    street_trees: float
    rails: float
    bare_share: float


def make_layout(rng: np.random.Generator) -> Layout:
    parking = {side: float(rng.uniform(0.35, 0.9)) if rng.random() < 0.55 else 0.0 for side in (-1, 1)}
    kerb = {side: float(rng.uniform(3.2, 3.9)) + (2.1 if parking[side] else 0.0) for side in (-1, 1)}
    front = {side: kerb[side] + float(rng.uniform(1.8, 4.2)) for side in (-1, 1)}
    shares = rng.dirichlet([6.0, 3.0, 4.0, 1.2])
    return Layout(
        kerb, front, parking, (float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3])),
        float(rng.uniform(0.2, 0.9)), float(rng.choice([0.0, 0.3, 0.8])), float(rng.uniform(0.05, 0.4)),
        float(rng.choice([0.15, 0.6, 0.9])),
    )  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell's faces, its ground areas (material name, corners (4, 2) lateral and z) and what casts shade.

    ``casters`` (N, 5) are base lines in x, z and the height in metres; ``contacts`` (N, 4, 2) are footprints in x, z.
    """

    faces: Faces
    areas: list[tuple[str, Floats]]
    casters: Floats
    contacts: Floats


class Scenery:
    """Cells of one street, built on demand."""

    def __init__(self, seed: int, path: RoadPath, layout: Layout, library: Library) -> None:
        self._build = lru_cache(maxsize=2 * CELL_RING)(
            lambda number: _CellBuilder(seed, number, path, layout, library).build()
        )

        self._joined = lru_cache(maxsize=4)(self._join)

    def cells(self, first_z: float, last_z: float) -> tuple[list[Cell], Faces]:
        """The cells that meet [first_z, last_z] metres along the street, from near to far, and all their faces."""
        return self._joined(int(np.floor(first_z / CELL_M)), int(np.floor(last_z / CELL_M)))

    def _join(self, first: int, last: int) -> tuple[list[Cell], Faces]:
        cells = [self._build(number) for number in range(first, last + 1)]
        return cells, join([cell.faces for cell in cells])


class _CellBuilder:
    def __init__(self, seed: int, number: int, path: RoadPath, layout: Layout, library: Library) -> None:
        self.rng = np.random.default_rng([abs(seed), 11, abs(number), int(number < 0)])
        self.start = number * CELL_M
        self.path, self.layout, self.library = path, layout, library
        self.slot = FIRST_CELL_SLOT + number % CELL_RING * CELL_SLOTS
        self.faces = FaceBuilder(self.slot)
        self.models: list[Faces] = []
        self.areas: list[tuple[str, Floats]] = []
        self.casters: list[Floats] = []
        self.contacts: list[Floats] = []

    def build(self) -> Cell:
        for side in (-1, 1):
            self._zone(side)
        faces = self.faces.build()
        if self.models:
            faces = join([faces, *self.models])
        return Cell(
            faces,
            self.areas,
            np.array(self.casters, np.float64).reshape(-1, 5),
            np.array(self.contacts, np.float64).reshape(-1, 4, 2),
        )

    def _chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def _pick(self, numbers: list[int]) -> int:
        return numbers[int(self.rng.integers(len(numbers)))]

    def _between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def _grey(self, low: float, high: float, hue: float = 0.05) -> Colour:
        base = self._between(low, high) * (1 + self.rng.normal(0, hue, 3))
        return float(base[0]), float(base[1]), float(base[2])

    def _area(self, material: str, side: int, near: float, far: float, z0: float, z1: float) -> None:
        """Ground from ``near`` to ``far`` metres from the centre line on one side, over [z0, z1] in the cell."""
        z0, z1 = self.start + z0, self.start + z1
        corners = np.array([[side * near, z0], [side * far, z0], [side * far, z1], [side * near, z1]])
        self.areas.append((material, corners))

    def _zone(self, side: int) -> None:
        front = self.layout.front[side]
        kind = int(self.rng.choice(4, p=self.layout.zones))
        if kind == 0:
            self._area("forecourt", side, front - 0.1, 60, 0, CELL_M)
            self._terrace(side, front)
        elif kind == 1:
            self._houses(side, front + self._between(2.5, 6.0))
            self._boundary(side, front, hedge_share=0.45)
        elif kind == 2:
            self._park(side, front)
        else:
            self._side_street(side, front)
        if kind != 3:
            self._kerb_side(side)
            self._parked(side)
        self._furniture(side, junction=kind == 3)

    def _terrace(self, side: int, front: float) -> None:
        cuts = np.array([0.0, self._between(7, 9), self._between(14.5, 17), CELL_M])
        if self._chance(0.4):
            cuts = np.array([0.0, self._between(10, 14), CELL_M])
        for z0, z1 in zip(cuts[:-1], cuts[1:]):
            fronts = self.library.shops if self._chance(self.layout.shops) else self.library.homes
            self._house(side, front + self._between(0, 0.35), float(z0), float(z1), fronts)

    def _houses(self, side: int, front: float) -> None:
        self._house(side, front, self._between(0, 3), self._between(9.5, 11.5), self.library.homes)
        if self._chance(0.8):
            self._house(side, front + self._between(-1, 1), self._between(13, 15), self._between(21, 24), self.library.homes)
        for _ in range(int(self.rng.integers(0, 3))):
            self._tree(side, front - self._between(1.0, 2.0), self._between(0, CELL_M), self._between(0.4, 0.75))
        self._wood(side, front + 12, 0.8)

    def _house(self, side: int, lateral: float, z0: float, z1: float, fronts: list[Front]) -> None:
        """A front with its gable end, roof and chimneys, standing from z0 to z1 in the cell."""
        front = min((fronts[int(i)] for i in self.rng.integers(len(fronts), size=2)), key=lambda f: abs(f.width - z1 + z0))
        height, depth = front.height * self._between(0.92, 1.12), self._between(8, 11)
        near = self.path.point(side * lateral, self.start + z0)
        far = self.path.point(side * lateral, self.start + z1)
        left, right = (near, far) if side < 0 else (far, near)
        across, tint = right - left, self._grey(0.75, 1.15)
        self.faces.add(left + UP * height, across, -UP * height, front.sprite, BUILDING, far, tint, one_sided=True)
        back = self.path.point(side * (lateral + depth), self.start + z0) - near
        wall_left, wall_across = (near + back, -back) if side < 0 else (near, back)
        pitched = self._chance(0.7)
        rise = self._between(1.8, 3.4) if pitched else 0.4
        eaves = rise / (height + rise)
        gable = ((0.0, eaves), (0.5, 0.0), (1.0, eaves), (1.0, 1.0), (0.0, 1.0))
        self.faces.add(
            wall_left + UP * (height + rise), wall_across, -UP * (height + rise), self._pick(self.library.walls),
            BUILDING, far, self._grey(0.6, 1.0), one_sided=True,
            outline=gable if pitched else ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),
        )  # fmt: skip
        if pitched:
            ridge = left + back / 2 + UP * (height + rise)
            self.faces.add(
                ridge, across, left + UP * (height - 0.1) - ridge - back * 0.04, self._pick(self.library.roofs), BUILDING,
                far, self._grey(0.8, 1.1), one_sided=True, order=1,
            )  # fmt: skip
            for where in (0.12, 0.88):
                if self._chance(0.6):
                    foot = left + across * where + back / 2 + UP * (height + rise - 0.7)
                    sprite, shade = self._pick(self.library.walls), self._grey(0.6, 0.9)
                    outward = back / np.linalg.norm(back)
                    along = across / np.linalg.norm(across)
                    self.faces.upright(foot, outward * side, 0.9, 1.9, sprite, BUILDING, far, shade, 2)
                    self.faces.upright(foot - outward * 0.4, along, 0.7, 1.9, sprite, BUILDING, far, shade, 2)
        self.casters.append(np.array([near[0], near[2], far[0], far[2], height + rise / 2]))
        if self._chance(0.3 * self.layout.shops):
            foot = self.path.point(side * (lateral - 0.55), self.start + self._between(z0, z1))
            foot = foot + UP * self._between(2.6, 3.6)
            self.faces.upright(foot, self._right(foot), 0.8, self._between(0.5, 0.9), self._pick(self.library.boards), SIGN)

    def _right(self, point: Floats) -> Floats:
        return self.path.frame(float(point[2]))[0]

    def _park(self, side: int, front: float) -> None:
        self._wood(side, front + self._between(9, 16), self._between(0.8, 1.3))
        for _ in range(int(self.rng.integers(1, 5))):
            self._tree(side, front + self._between(1.2, 6.0), self._between(0, CELL_M), self._between(0.6, 1.15))
        self._boundary(side, front, hedge_share=0.4)

    def _wood(self, side: int, lateral: float, scale: float) -> None:
        near = self.path.point(side * lateral, self.start - 1.0)
        far = self.path.point(side * lateral, self.start + CELL_M + 1.0)
        left, right = (near, far) if side < 0 else (far, near)
        height = 9.0 * scale
        sprite = self._pick(self.library.woods)
        self.faces.add(
            left + UP * height, right - left, -UP * height, sprite, TREE, far + (far - near) * 0.05,
            self._grey(0.7, 1.1), sunlit=0.4,
        )  # fmt: skip

    def _boundary(self, side: int, lateral: float, hedge_share: float) -> None:
        """Hedge, planks, railings or nothing along the back of the pavement."""
        draw = self.rng.random()
        if draw < hedge_share:
            self._row(side, lateral + 0.4, 6.0, self._between(1.1, 2.0), self.library.hedges, TREE)
        elif draw < hedge_share + 0.22:
            self._row(side, lateral, 3.0, self._between(1.0, 1.8), self.library.planks, FENCE)
        elif draw < hedge_share + 0.45:
            self._row(side, lateral, 2.0, 1.1, self.library.railings, FENCE)

    def _kerb_side(self, side: int) -> None:
        if self._chance(self.layout.rails) and not self.layout.parking[side]:
            self._row(side, self.layout.kerb[side] + 0.35, 2.0, 1.05, self.library.railings, FENCE)

    def _row(self, side: int, lateral: float, panel: float, height: float, sprites: list[int], label: int) -> None:
        sprite, tint = self._pick(sprites), self._grey(0.8, 1.1)
        ends = self.path.point(side * lateral, self.start + np.arange(0, CELL_M + 0.1, panel))
        for near, far in zip(ends[:-1], ends[1:]):
            left, right = (near, far) if side < 0 else (far, near)
            self.faces.add(left + UP * height, right - left, -UP * height, sprite, label, far, tint)
        if label == TREE:
            self.casters.append(np.array([ends[0, 0], ends[0, 2], ends[-1, 0], ends[-1, 2], height]))

    def _side_street(self, side: int, front: float) -> None:
        z0, z1 = 7.0, self._between(14.0, 17.0)
        self._area("forecourt", side, front - 0.1, 60, 0, CELL_M)
        self._area("side_road", side, self.layout.kerb[side] - 0.5, 60, z0, z1)
        shops = self.library.shops
        self._house(side, front + 0.2, z1 + 2.5, CELL_M, shops)
        self._house(side, front + 0.2, -0.5, z0 - 2.0, shops)
        for lateral in (24.0, 38.0):
            self._tree(side, lateral, self._between(z0 - 4, z1 + 6), self._between(0.8, 1.2))

    def _tree(self, side: int, lateral: float, z: float, scale: float) -> None:
        foot = self.path.point(side * lateral, self.start + z)
        height = 8.5 * scale * self._between(0.85, 1.15)
        draw = self.rng.random()
        kinds, aspect = (self.library.leafy, 0.95) if draw > 0.2 else (self.library.conifers, 0.5)
        if draw > 0.2 and self._chance(self.layout.bare_share):
            kinds = self.library.bare
        tint = self._grey(0.75, 1.15, 0.07)
        self.faces.upright(foot, self._right(foot), height * aspect, height, self._pick(kinds), TREE, foot, tint, 0, 0.45)
        crown = height * aspect * 0.35
        self.casters.append(np.array([foot[0] - crown, foot[2], foot[0] + crown, foot[2], height]))

    def _parked(self, side: int) -> None:
        share = self.layout.parking[side]
        z = self._between(0.0, 2.0) + 2.5
        while share and z < CELL_M - 2.0:
            if self._chance(share):
                fleet = self.library.away if side < 0 or self._chance(0.3) else self.library.towards
                choice = int(self.rng.integers(len(fleet) - 1))
                vehicle = fleet[choice]
                place = self.path.point(side * (self.layout.kerb[side] - 1.05), self.start + z)
                right, forward = self.path.frame(self.start + z)
                slot = self.slot + 512 + 32 * len(self.models)
                self.models.append(moved(vehicle.faces, place, right, forward, slot))
                self.contacts.append(footprint(place, right, forward, vehicle.half))
            z += self._between(5.2, 7.5)

    def _furniture(self, side: int, junction: bool) -> None:
        kerb, front = self.layout.kerb[side], self.layout.front[side]
        z = self._between(1, 8)
        self._lamp(side, kerb + 0.4, z)
        if self._chance(0.5) or junction:
            self._signpost(side, kerb + 0.5, self._between(9, 23), junction)
        if self._chance(0.55):
            for z in np.arange(self._between(0, 6), CELL_M, self._between(3.0, 6.0)):
                foot = self.path.point(side * (kerb + 0.3), self.start + float(z))
                self.faces.upright(foot, self._right(foot), 0.13, 1.0, self._pick(self.library.bollards), POLE, sunlit=0.4)
        if self._chance(0.3):
            foot = self.path.point(side * (kerb + 0.6), self.start + self._between(0, CELL_M))
            self.faces.upright(foot, self._right(foot), 0.55, 1.0, self._pick(self.library.bins), UNLABELLED, sunlit=0.3)
        if self._chance(0.35):
            z = self._between(2, 18)
            for _ in range(int(self.rng.integers(1, 4))):
                near = self.path.point(side * (front - 0.3), self.start + z)
                step = self.path.point(side * (front - 0.3 - self._between(0, 0.3)), self.start + z + 1.7) - near
                left, across = (near, step) if side < 0 else (near + step, -step)
                sprite = self._pick(self.library.bicycles)
                self.faces.add(left + UP * 1.05, across, -UP * 1.05, sprite, BICYCLIST, near + step, sunlit=0.4)
                z += self._between(0.5, 2.0)
        if self._chance(0.5):
            foot = self.path.point(side * self._between(kerb + 0.5, front - 0.4), self.start + self._between(0, CELL_M))
            person = self.library.walkers[int(self.rng.integers(len(self.library.walkers)))]
            model = walking(person, self._between(0, 6), True, self._between(0.93, 1.05))
            self.models.append(moved(model, foot, *self.path.frame(float(foot[2])), self.slot + 512 + 32 * len(self.models)))
        for z in np.arange(self._between(2, 9), CELL_M, 9.0):
            if self._chance(self.layout.street_trees):
                self._tree(side, kerb + 0.8, float(z), self._between(0.6, 0.95))

    def _lamp(self, side: int, lateral: float, z: float) -> None:
        foot = self.path.point(side * lateral, self.start + z)
        right, sprite, height = self._right(foot), self._pick(self.library.poles), self._between(5.5, 8.0)
        self.faces.upright(foot, right, 0.14, height, sprite, POLE, sunlit=0.5)
        reach = self._between(0.6, 1.8)
        arm = foot + UP * (height - 0.1) - right * side * reach / 2
        self.faces.upright(arm, right, reach, 0.09, sprite, POLE, foot, sunlit=0.2)
        lamp = foot + UP * (height - 0.16) - right * side * reach
        self.faces.upright(lamp, right, 0.6, 0.16, sprite, POLE, foot, (1.3, 1.3, 1.3), 1, 0.6)

    def _signpost(self, side: int, lateral: float, z: float, junction: bool) -> None:
        foot = self.path.point(side * lateral, self.start + z)
        right = self._right(foot)
        height = self._between(2.4, 3.4)
        self.faces.upright(foot, right, 0.1, height, self._pick(self.library.poles), POLE, sunlit=0.4)
        if junction:
            for sprite in self.library.lights[:1]:
                self.faces.upright(foot + UP * (height - 1.0), right, 0.42, 1.0, sprite, SIGN, foot, order=1, sunlit=0.4)
            return
        draw = self.rng.random()
        sprites, outline = (self.library.discs, furniture.ROUND) if draw < 0.4 else (self.library.boards, furniture.SQUARE)
        if draw > 0.85:
            sprites, outline = self.library.triangles, furniture.TRIANGLE
        width = self._between(0.6, 0.8) if draw < 0.4 or draw > 0.85 else self._between(0.5, 1.2)
        tall = width if draw < 0.4 or draw > 0.85 else self._between(0.5, 0.9)
        self.faces.upright(
            foot + UP * (height - tall), right, width, tall, self._pick(sprites), SIGN, foot, order=1, sunlit=0.45, outline=outline
        )  # fmt: skip


def footprint(place: Floats, right: Floats, forward: Floats, half: Floats) -> Floats:
    """Corners (4, 2) in x, z of a vehicle's box on the ground."""
    corners = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * half * [1.02, 0.98]
    return np.asarray((place + corners[:, :1] * right + corners[:, 1:] * forward)[:, [0, 2]])
