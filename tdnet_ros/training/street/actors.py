"""Who moves along the street: closed forms of time, so traffic never runs out and needs no history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tdnet_ros.training.street.camera import EgoDrive, Floats, RoadPath
from tdnet_ros.training.street.faces import FaceBuilder, Faces, moved
from tdnet_ros.training.street.layout import Layout
from tdnet_ros.training.street.library import Library
from tdnet_ros.training.street.people import Person, riding, walking
from tdnet_ros.training.street.vehicles import Vehicle, footprint

#: Slots of actors: one block per stream, one ring of places in it, room for one model's faces at each.
#: The car ahead has its own, below.
_LEAD_SLOT, _FIRST_ACTOR_SLOT, _STREAM_SLOTS, _RING, _MODEL_SLOTS = 16, 64, 1024, 32, 32


@dataclass(frozen=True)
class Cast:
    """The actors' faces at one moment and their footprints (N, 4, 2) on the ground in x, z."""

    faces: Faces
    contacts: Floats


#: Draws a member of a stream: its half width and length, and its faces around the origin at a time.
_Model = Callable[[np.random.Generator], tuple[Floats, Callable[[float], Faces]]]


@dataclass(frozen=True)
class _Member:
    offset: float
    lateral: float
    half: Floats
    faces: Callable[[float], Faces]


@dataclass(frozen=True)
class _Stream:
    """Endless actors at about equal spacing that share one speed, so that none runs into another."""

    key: int
    speed: float
    lateral: float
    spread: float
    spacing: float
    share: float
    reach: float
    model: _Model


class Traffic:
    """All moving actors of a street."""

    def __init__(
        self,
        seed: int,
        rng: np.random.Generator,
        path: RoadPath,
        ego: EgoDrive,
        layout: Layout,
        library: Library,
        lane: float,
    ) -> None:
        self._seed, self._path, self._ego, self._library, self._lane = seed, path, ego, library, lane
        self._leads = rng.random() < 0.55
        self._gap = rng.uniform([11.0, 3.0, 0.05, 0.0], [24.0, 8.0, 0.12, 6.3])
        self._lead = int(rng.integers(len(library.away)))
        self._streams = self._plan(rng, layout)
        self._member = lru_cache(maxsize=1024)(self._draw)

    def _plan(self, rng: np.random.Generator, layout: Layout) -> list[_Stream]:
        """Oncoming cars, bicyclists on both sides, and people on both pavements, walking either way."""
        space = {side: layout.kerb[side] - (2.1 if layout.parking[side] else 0.0) for side in (-1, 1)}
        busy = float(rng.uniform(0.25, 0.8))
        streams = [
            _Stream(
                0,
                -float(rng.uniform(5, 10)),
                1.65,
                0.15,
                float(rng.uniform(18, 40)),
                busy,
                130,
                self._cars(self._library.towards),
            ),
            _Stream(
                1,
                float(rng.uniform(3.0, 5.0)),
                -space[-1] + 0.35,
                0.1,
                34,
                float(rng.uniform(0.2, 0.8)),
                90,
                self._rider,
            ),
            _Stream(
                2,
                -float(rng.uniform(3.5, 5.5)),
                space[1] - 0.3,
                0.1,
                38,
                float(rng.uniform(0.1, 0.6)),
                90,
                self._rider,
            ),
        ]
        for key, (side, speed) in enumerate(((-1, 1.2), (-1, -1.35), (1, 1.3), (1, -1.15)), 3):
            middle = (layout.kerb[side] + layout.front[side]) / 2 + 0.35 * np.sign(speed)
            spread = (layout.front[side] - layout.kerb[side]) / 2 - 0.7
            streams.append(
                _Stream(
                    key,
                    speed,
                    side * float(middle),
                    max(spread, 0.1),
                    8.0,
                    float(rng.uniform(0.15, 0.6)),
                    75,
                    self._walker,
                )
            )
        return streams

    def _cars(self, fleet: list[Vehicle]) -> _Model:
        def draw(own: np.random.Generator) -> tuple[Floats, Callable[[float], Faces]]:
            vehicle = fleet[int(own.integers(len(fleet)))]
            return vehicle.half, lambda time_s: vehicle.faces

        return draw

    def _walker(self, own: np.random.Generator) -> tuple[Floats, Callable[[float], Faces]]:
        person = self._library.walkers[int(own.integers(len(self._library.walkers)))]
        phase, size = float(own.uniform(0, 1)), float(own.choice([0.92, 0.98, 1.04]))
        return np.array([0.25, 0.15]), lambda time_s: _stride(person, _step(phase + 0.95 * time_s), size)

    def _rider(self, own: np.random.Generator) -> tuple[Floats, Callable[[float], Faces]]:
        person = self._library.riders[int(own.integers(len(self._library.riders)))]
        phase = float(own.uniform(0, 1))
        return np.array([0.25, 0.8]), lambda time_s: _crank(person, _step(phase + 1.05 * time_s))

    def at(self, time_s: float, window_s: float) -> Cast:
        """Everybody as they stand at ``time_s``, the members being those near the camera at ``window_s``.

        Asking for two moments with one window returns the same members in the same order, so their faces pair
        up.
        """
        window_z = self._ego.distance(window_s) - 3.0
        models, halves, places, slots = [FaceBuilder().build()], [np.zeros(2)], [(0.0, 0.0)], [0]
        if self._leads:
            base, swing, rate, phase = self._gap
            z = self._ego.distance(time_s) + base + swing * float(np.sin(rate * time_s + phase))
            vehicle = self._library.away[self._lead]
            models.append(vehicle.faces)
            halves.append(vehicle.half)
            places.append((self._lane, z))
            slots.append(_LEAD_SLOT)
        for stream in self._streams:
            drift = stream.speed * window_s
            first = int(np.floor((window_z - drift) / stream.spacing))
            last = int(np.ceil((window_z + stream.reach - drift) / stream.spacing))
            for number in range(first, last + 1):
                member = self._member(stream.key, number)
                if member is not None:
                    models.append(member.faces(time_s))
                    halves.append(member.half)
                    places.append((member.lateral, member.offset + stream.speed * time_s))
                    slots.append(_FIRST_ACTOR_SLOT + stream.key * _STREAM_SLOTS + number % _RING * _MODEL_SLOTS)
        lateral, z_places = np.array(places).T
        positions = self._path.point(lateral, z_places)
        rights, forwards = self._path.frames(z_places)
        faces = moved(models, positions, rights, forwards, np.array(slots, np.intp))
        return Cast(faces, footprint(positions, rights, forwards, np.array(halves))[1:])

    def _draw(self, key: int, number: int) -> _Member | None:
        stream = self._streams[key]
        own = np.random.default_rng([self._seed, 13, key, abs(number), int(number < 0)])
        if own.random() > stream.share:
            return None
        offset, side = float(own.uniform(0.0, 0.5)), float(own.uniform(-1, 1))
        half, faces = stream.model(own)
        return _Member((number + offset) * stream.spacing, stream.lateral + side * stream.spread, half, faces)


#: Poses per step: enough to look smooth; motion stays exact, as a pose is a place like any other.
_POSES = 24


def _step(turns: float) -> int:
    return int(np.floor(turns * _POSES)) % _POSES


@lru_cache(maxsize=1024)
def _stride(person: Person, pose: int, size: float) -> Faces:
    return walking(person, 2 * np.pi * pose / _POSES, False, size)


@lru_cache(maxsize=256)
def _crank(person: Person, pose: int) -> Faces:
    return riding(person, 2 * np.pi * pose / _POSES)
