"""The ground: road, kerbs, pavement, verges and paint, all in one plane, and the shade that falls on it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import CAMVID
from tdnet_ros.training.street.camera import Camera, Floats, RoadPath
from tdnet_ros.training.street.layout import Cell, Layout
from tdnet_ros.training.street.noise import tileable

Plane = npt.NDArray[np.float32]

#: Polygons reach from this far ahead of the lens to this far; nearer points lie below any picture.
NEAR_M, FAR_M = 0.6, 260.0
SUBPIXEL_BITS = 3

_ROAD, _PAVEMENT, _TREE = (CAMVID.names.index(name) for name in ("road", "pavement", "tree"))
#: Material to its class and its colour in full light.
MATERIALS: dict[str, tuple[int, tuple[float, float, float]]] = {
    "verge": (_TREE, (84, 92, 54)),
    "forecourt": (_PAVEMENT, (104, 100, 96)),
    "pavement": (_PAVEMENT, (100, 99, 98)),
    "kerb": (_PAVEMENT, (132, 130, 126)),
    "side_road": (_ROAD, (88, 89, 92)),
    "road": (_ROAD, (91, 92, 95)),
    "gutter": (_ROAD, (62, 62, 64)),
    "patch": (_ROAD, (70, 72, 76)),
    "paint": (_ROAD, (196, 196, 192)),
    "yellow": (_ROAD, (176, 150, 84)),
}
MATERIAL_NUMBERS = {name: number for number, name in enumerate(MATERIALS)}


def clip_near(polygon: Floats, near: float) -> Floats:
    """The part (K, 3) of a homogeneous polygon (N, 3) whose depth, its third column, is at least ``near``."""
    inside = polygon[:, 2] >= near
    if inside.all():
        return polygon
    following, next_inside = np.roll(polygon, -1, axis=0), np.roll(inside, -1)
    corners: list[Floats] = []
    for here, there, is_in, will_be in zip(polygon, following, inside, next_inside, strict=False):
        if is_in:
            corners.append(here)
        if is_in != will_be:
            share = (near - here[2]) / (there[2] - here[2])
            corners.append(here + share * (there - here))
    return np.array(corners, np.float64).reshape(-1, 3)


def fixed_point(polygons: Floats) -> npt.NDArray[np.int32]:
    """Homogeneous pixels (..., 3) as OpenCV's fixed point coordinates (..., 2), kept clear of overflow."""
    pixels = polygons[..., :2] / polygons[..., 2:] * (1 << SUBPIXEL_BITS)
    return np.clip(pixels, -160000, 160000).astype(np.int32)


def paint_polygon(targets: tuple[npt.NDArray[np.unsignedinteger], ...], polygon: Floats, value: int) -> None:
    """Fill a homogeneous polygon (K, 3) in px, convex if it has four corners, cut off near the lens."""
    clipped = clip_near(polygon, NEAR_M)
    if len(clipped) < 3:
        return
    corners = fixed_point(clipped)
    for target in targets:
        if len(polygon) == 4:
            cv2.fillConvexPoly(target, corners, (value,), cv2.LINE_8, SUBPIXEL_BITS)
        else:
            cv2.fillPoly(target, [corners], (value,), cv2.LINE_8, SUBPIXEL_BITS)


def paint_polygons(target: npt.NDArray[np.unsignedinteger], polygons: Floats, value: int) -> None:
    """Fill homogeneous quadrilaterals (N, 4, 3) in px, leaving out those beside or behind the picture."""
    depth = polygons[..., 2]
    ahead = depth.min(1) >= NEAR_M
    pixels = fixed_point(np.where(ahead[:, None, None], polygons, 1.0))
    low, high = pixels.min(1), pixels.max(1)
    seen = (high > 0).all(1) & (low < np.array(target.shape[1::-1]) << SUBPIXEL_BITS).all(1)
    for corners in pixels[ahead & seen]:
        cv2.fillConvexPoly(target, corners, (value,), cv2.LINE_8, SUBPIXEL_BITS)
    for polygon in polygons[~ahead & (depth.max(1) > NEAR_M)]:
        paint_polygon((target,), polygon, value)


class Ground:
    """Lays out and shades one street's ground."""

    def __init__(self, rng: np.random.Generator, path: RoadPath, layout: Layout) -> None:
        self._path, self._layout = path, layout
        self._dash, self._period = (float(v) for v in ((2.0, 6.0), (4.0, 6.0), (3.0, 9.0))[rng.integers(3)])
        self._zebra_every = float(rng.uniform(120, 260))
        self._lines = {side: str(rng.choice(["yellow", "paint", "none"], p=[0.45, 0.15, 0.4])) for side in (-1, 1)}
        self._fine = tileable(rng, 512, 0.25)
        self._coarse = tileable(rng, 256, 1.3)
        self._strengths = rng.uniform([0.06, 0.05, 0.03], [0.14, 0.12, 0.09])

    def polygons(self, camera: Camera, z: float, cells: list[Cell]) -> list[tuple[str, Floats]]:
        """(material, homogeneous pixels (K, 3)) in painting order for a camera at ``z`` along the street."""
        layout, kerbs, fronts = self._layout, self._layout.kerb, self._layout.front
        zones = [area for cell in reversed(cells) for area in cell.areas if area[0] != "side_road"]
        joining = [area for cell in cells for area in cell.areas if area[0] == "side_road"]
        edges = [("pavement", s * (kerbs[s] + 0.14), s * (fronts[s] + 0.05), FAR_M) for s in (-1, 1)]
        edges += [("kerb", s * kerbs[s], s * (kerbs[s] + 0.16), 60.0) for s in (-1, 1)]
        edges += [("road", -layout.kerb[-1], layout.kerb[1], FAR_M)]
        edges += [("gutter", s * (kerbs[s] - 0.22), s * kerbs[s], 35.0) for s in (-1, 1)]
        lines: list[tuple[str, float, float, float]] = []
        for side in (-1, 1):
            if self._lines[side] != "none":
                edge = side * (kerbs[side] - 0.34)
                lines.append((self._lines[side], edge - 0.04, edge + 0.04, 30.0))
                lines.append((self._lines[side], edge - side * 0.2 - 0.04, edge - side * 0.2 + 0.04, 16.0))
        strips = self._strips(z, edges + lines)
        boxes = self._boxes([*zones, *joining, *self._paint(z)])
        base: Floats = np.array([[-300, 0, 0.5], [300, 0, 0.5], [300, 0, 600.0], [-300, 0, 600]])
        base[:, [0, 2]] += [camera.position[0], z]
        after_zones, after_edges = len(zones), len(edges)
        laid: list[tuple[str, Floats]] = [
            ("verge", base),
            *boxes[:after_zones],
            *strips[:after_edges],
            *boxes[after_zones:],
            *strips[after_edges:],
        ]
        relative = camera.ground()
        flat = np.concatenate([points for _, points in laid])[:, [0, 2]] - camera.position[[0, 2]]
        ends = np.cumsum([len(points) for _, points in laid])[:-1]
        pixels = np.split(flat @ relative[:, :2].T + relative[:, 2], ends)
        return [(material, polygon) for (material, _), polygon in zip(laid, pixels, strict=False)]

    def _strips(self, z: float, edges: list[tuple[str, float, float, float]]) -> list[tuple[str, Floats]]:
        """Bands along the whole street between two lateral edges, up to their reach in metres."""
        steps = z + np.geomspace(NEAR_M + 0.8, FAR_M, 40) - 0.2
        laterals = np.array([[near, far] for _, near, far, _ in edges])
        points = self._path.point(laterals[..., None], steps)
        strips = []
        for (material, _, _, reach), (near, far) in zip(edges, points, strict=False):
            count = int(np.searchsorted(steps, z + reach, "right"))
            strips.append((material, np.concatenate([near[:count], far[:count][::-1]])))
        return strips

    def _boxes(self, areas: list[tuple[str, Floats]]) -> list[tuple[str, Floats]]:
        corners = np.array([area for _, area in areas]).reshape(-1, 4, 2)
        points = self._path.point(corners[..., 0], corners[..., 1])
        return [(material, box) for (material, _), box in zip(areas, points, strict=False)]

    def _paint(self, z: float) -> list[tuple[str, Floats]]:
        """Patches, dashes and zebra crossings ahead as (material, corners (4, 2) lateral and z)."""
        layout = self._layout
        laid: list[tuple[str, Floats]] = []
        for number in range(int(np.floor(z / 23.0)), int(np.floor((z + 60) / 23.0)) + 1):
            d, across, at, along = _patch(number)
            d = d * (layout.kerb[1] + layout.kerb[-1] - 1.5) - layout.kerb[-1]
            laid.append(("patch", _box(d, d + across, at, at + along)))
        zebra = np.round((z + 30) / self._zebra_every) * self._zebra_every
        has_zebra = z - 5 < zebra < z + 70
        for number in range(int(z / self._period) - 1, int((z + 65) / self._period) + 1):
            start = number * self._period
            if not (has_zebra and zebra - 4 < start < zebra + 6):
                laid.append(("paint", _box(-0.05, 0.05, start, start + self._dash)))
        if has_zebra:
            for d in np.arange(-layout.kerb[-1] + 0.5, layout.kerb[1] - 0.6, 1.2):
                laid.append(("paint", _box(d, d + 0.6, zebra, zebra + 3.0)))
        return laid

    def texture(self, x: Plane, z: Plane, camera: Camera) -> Plane:
        """Factor (h, w) on the ground's colour, from camera-relative x and z (h, w) in metres."""
        grain, stains, wear = (np.float32(v) for v in self._strengths)
        factor = self._sampled(self._fine, 60.0, x, z, camera)
        factor *= grain * np.exp(z * np.float32(-1 / 14.0))
        # The large scales have no detail to lose: a quarter of the pixels will do.
        x, z = x[::2, ::2], z[::2, ::2]
        broad = stains * self._sampled(self._coarse, 24.0, x, z, camera) * np.exp(z * np.float32(-1 / 28.0))
        broad += wear * self._sampled(self._coarse, 3.5, x, z, camera)
        factor += np.asarray(cv2.resize(broad, factor.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
        factor += np.float32(1)
        return factor

    @staticmethod
    def _sampled(tile: Plane, px_per_m: float, x: Plane, z: Plane, camera: Camera) -> Plane:
        """The tile at each place of the world, whose origin may be hours away."""
        period = len(tile) / px_per_m
        left, near = camera.position[0] % period, camera.position[2] % period
        across = (x + np.float32(left)) * np.float32(px_per_m)
        along = (z + np.float32(near)) * np.float32(px_per_m)
        wrapped = cv2.remap(tile, across, along, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        return np.asarray(wrapped, np.float32)


def _box(near: float, far: float, z0: float, z1: float) -> Floats:
    return np.array([[near, z0], [far, z0], [far, z1], [near, z1]])


@lru_cache(maxsize=64)
def _patch(number: int) -> tuple[float, float, float, float]:
    """Mended asphalt number so and so: lateral place (0 to 1), width, start and length in metres."""
    own = np.random.default_rng([17, abs(number), int(number < 0)])
    d, across, at, along = own.uniform([0, 0.5, 0, 0.6], [1, 1.8, 18, 7])
    return float(d), float(across), number * 23.0 + float(at), float(along)


def shade_map(
    shape: tuple[int, int],
    camera: Camera,
    cells: list[Cell],
    contacts: Floats,
    sun: Floats,
    light_left: float,
) -> npt.NDArray[np.float32]:
    """What is left (H, W) of the light on the ground: cast shadows of houses and trees, dark under vehicles.

    ``sun`` (3,) points towards it; ``contacts`` (N, 4, 2) are footprints of moving vehicles in x, z.
    """
    shade = np.full(shape, 255, np.uint8)
    relative = camera.ground()
    under = np.concatenate([cell.contacts for cell in cells[:4]] + [contacts])
    middle = under.mean(1, keepdims=True)
    layers = [(middle + (under - middle) * 1.18, 120), (under, 50)]
    if light_left < 0.93:
        casters = np.concatenate([cell.casters for cell in cells[:5]])
        base = casters[:, :4].reshape(-1, 2, 2)
        tips = base - (sun[[0, 2]] / sun[1]) * casters[:, 4, None, None]
        layers.insert(0, (np.concatenate([base, tips[:, ::-1]], 1), int(255 * light_left)))
    for corners, value in layers:
        pixels = (corners - camera.position[[0, 2]]) @ relative[:, :2].T + relative[:, 2]
        paint_polygons(shade, pixels, value)
    shade = np.asarray(cv2.GaussianBlur(shade, (5, 5), 0), np.uint8)
    return np.asarray(np.multiply(shade, np.float32(1 / 255)), np.float32)
