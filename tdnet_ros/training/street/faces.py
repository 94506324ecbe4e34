"""Plane pieces in space, all that the rendered street is built from, kept as arrays for NumPy to place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Colour = tuple[float, float, float]

#: Corners an outline may have; shorter ones repeat their last corner.
OUTLINE_CORNERS = 12
UP: Floats = np.array([0.0, 1.0, 0.0])
#: Corners (u, v) of a face in shares of its ``across`` and ``down``.
Outline = tuple[tuple[float, float], ...]
SQUARE: Outline = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
DISC: Outline = tuple((0.5 + 0.5 * float(np.sin(a)), 0.5 - 0.5 * float(np.cos(a))) for a in np.arange(12) * np.pi / 6)
_WHITE: Colour = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Faces:
    """N plane pieces. A face spans ``origin + u * across + v * down`` for (u, v) inside its outline."""

    origin: Floats  # (N, 3) metres
    across: Floats  # (N, 3)
    down: Floats  # (N, 3)
    anchor: Floats  # (N, 3) the point whose depth sorts the face; one object's faces share it
    outline: Floats  # (N, OUTLINE_CORNERS, 2) in (u, v)
    sprite: npt.NDArray[np.intp]  # (N,) index into the sprite book
    label: npt.NDArray[np.uint8]  # (N,)
    tint: npt.NDArray[np.float32]  # (N, 3) factor on the sprite's colours
    sunlit: npt.NDArray[np.float32]  # (N,) share of direct light; NaN: from the face's normal
    order: npt.NDArray[np.intp]  # (N,) painted later when higher, within one object
    one_sided: npt.NDArray[np.bool_]  # (N,) invisible from behind
    slot: npt.NDArray[np.intp]  # (N,) identity that stays the same from frame to frame

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, index: npt.NDArray[np.intp]) -> Faces:
        """The faces of these numbers (M,), in this order."""
        return Faces(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def join(parts: Sequence[Faces]) -> Faces:
    """All faces of several sets, in their order; at least one set is expected."""
    return Faces(
        **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Faces)}
    )


class FaceBuilder:
    """Collects faces one at a time; slots count up from ``first_slot``."""

    def __init__(self, first_slot: int = 0) -> None:
        self._first_slot = first_slot
        self._rows: list[tuple[object, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        origin: Floats,
        across: Floats,
        down: Floats,
        sprite: int,
        label: int,
        anchor: Floats,
        tint: Colour = _WHITE,
        order: int = 0,
        one_sided: bool = False,
        sunlit: float = float("nan"),
        outline: Outline = SQUARE,
    ) -> None:
        """One face: ``origin``, ``across``, ``down`` and ``anchor`` (3,) in metres; the rest as in Faces."""
        corners = list(outline) + [outline[-1]] * (OUTLINE_CORNERS - len(outline))
        self._rows.append((origin, across, down, anchor, corners, sprite, label, tint, sunlit, order, one_sided))

    def upright(
        self,
        foot: Floats,
        right: Floats,
        width: float,
        height: float,
        sprite: int,
        label: int,
        anchor: Floats | None = None,
        tint: Colour = _WHITE,
        order: int = 0,
        sunlit: float = float("nan"),
        outline: Outline = SQUARE,
    ) -> None:
        """A standing face with its lower edge centred on ``foot`` and along the unit vector ``right``."""
        origin = foot - right * (width / 2) + UP * height
        self.add(
            origin,
            right * width,
            -UP * height,
            sprite,
            label,
            foot if anchor is None else anchor,
            tint,
            order,
            False,
            sunlit,
            outline,
        )

    def build(self) -> Faces:
        """What was added, as arrays; their slots count on from the first one."""
        count = len(self._rows)
        columns = list(zip(*self._rows, strict=False)) if count else [()] * 11

        def floats(column: int, *shape: int) -> Floats:
            return np.array(columns[column], np.float64).reshape(count, *shape)

        return Faces(
            origin=floats(0, 3),
            across=floats(1, 3),
            down=floats(2, 3),
            anchor=floats(3, 3),
            outline=floats(4, OUTLINE_CORNERS, 2),
            sprite=floats(5).astype(np.intp),
            label=floats(6).astype(np.uint8),
            tint=floats(7, 3).astype(np.float32),
            sunlit=floats(8).astype(np.float32),
            order=floats(9).astype(np.intp),
            one_sided=floats(10).astype(np.bool_),
            slot=self._first_slot + np.arange(count, dtype=np.intp),
        )


def moved(
    models: Sequence[Faces],
    positions: Floats,
    rights: Floats,
    forwards: Floats,
    first_slots: npt.NDArray[np.intp],
) -> Faces:
    """Models built around the origin, facing +z, each put at its position with the street's axes there."""
    faces = join(models)
    sizes = np.array([len(model) for model in models])
    which = np.repeat(np.arange(len(models)), sizes)
    turns = np.stack([rights, np.broadcast_to(UP, rights.shape), forwards], -2)[which]

    def turned(vectors: Floats) -> Floats:
        return np.asarray((vectors[:, None] @ turns)[:, 0])

    starts = np.cumsum(sizes) - sizes
    return replace(
        faces,
        origin=turned(faces.origin) + positions[which],
        across=turned(faces.across),
        down=turned(faces.down),
        anchor=turned(faces.anchor) + positions[which],
        slot=first_slots[which] + np.arange(len(faces)) - starts[which],
    )
