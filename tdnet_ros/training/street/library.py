"""Everything a street can hold, painted once per seed: numbers of sprites in the book, by kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tdnet_ros.training.street import facades, furniture, people, plants, vehicles
from tdnet_ros.training.street.atlas import Sprite, SpriteBook


@dataclass(frozen=True)
class Front:
    """A house front: sprite number and its own width and height in metres."""

    sprite: int
    width: float
    height: float


@dataclass(frozen=True)
class Library:
    """Sprite numbers by kind and models made of them."""

    shops: list[Front]
    homes: list[Front]
    walls: list[int]
    roofs: list[int]
    leafy: list[int]
    bare: list[int]
    conifers: list[int]
    hedges: list[int]
    woods: list[int]
    poles: list[int]
    bollards: list[int]
    discs: list[int]
    triangles: list[int]
    boards: list[int]
    lights: list[int]
    railings: list[int]
    planks: list[int]
    bins: list[int]
    bicycles: list[int]
    away: list[vehicles.Vehicle]
    towards: list[vehicles.Vehicle]
    walkers: list[people.Person]
    riders: list[people.Person]


def paint_library(rng: np.random.Generator, book: SpriteBook) -> Library:
    """Paint a street's worth of sprites into the book; a fraction of a second."""

    def several(count: int, paint: Callable[[np.random.Generator], Sprite]) -> list[int]:
        return [book.add(paint(rng)) for _ in range(count)]

    def fronts(count: int, shop: bool) -> list[Front]:
        painted = [facades.facade(rng, shop) for _ in range(count)]
        return [Front(book.add(sprite), width, height) for sprite, width, height in painted]

    traffic = [
        vehicles.vehicle(rng, book, vehicles.SHAPES[int(kind)])
        for kind in (*rng.integers(0, 4, 7), 4, 5)  # mostly cars, one van, one bus
    ]
    return Library(
        shops=fronts(6, True),
        homes=fronts(6, False),
        walls=several(2, facades.bare_wall),
        roofs=several(2, facades.roof),
        leafy=several(2, plants.leafy_tree),
        bare=several(3, plants.bare_tree),
        conifers=several(2, plants.conifer),
        hedges=several(2, plants.hedge),
        woods=several(2, plants.wood),
        poles=several(3, furniture.pole),
        bollards=several(2, furniture.bollard_pole),
        discs=several(3, furniture.round_sign),
        triangles=several(1, furniture.triangle_sign),
        boards=several(5, furniture.board_sign),
        lights=several(2, furniture.traffic_light),
        railings=several(2, furniture.railing),
        planks=several(2, furniture.plank_fence),
        bins=several(1, furniture.litter_bin),
        bicycles=several(2, people.parked_bicycle),
        away=[pair[0] for pair in traffic],
        towards=[pair[1] for pair in traffic],
        walkers=[people.pedestrian(rng, book) for _ in range(7)],
        riders=[people.bicyclist(rng, book) for _ in range(3)],
    )
