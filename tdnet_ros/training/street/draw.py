"""Drawing: which face each pixel shows, by the painter's algorithm; then colours and motion of all pixels.

Faces leave only their numbers on the canvas. Every face is a plane, so a pixel's place in its sprite and its
place in the frame before are one homography each, looked up by number: no work per face and pixel, and motion
is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.training.street.atlas import Atlas
from tdnet_ros.training.street.camera import Camera, Floats
from tdnet_ros.training.street.faces import Faces
from tdnet_ros.training.street.ground import (
    FAR_M,
    MATERIAL_NUMBERS,
    MATERIALS,
    NEAR_M,
    SUBPIXEL_BITS,
    fixed_point,
    paint_polygon,
)

#: Slot of all ground in maps of identities: one plane, whatever lies on it.
GROUND_SLOT = 1
_FIRST_FACE = len(MATERIALS)
#: A mask nearer than this, a branch that passes the lens, would hide the whole picture for a frame.
_CLEAR_M = 2.0
_SMALL_PX = 8
_BAND_ROWS = 24
_CORNERS: Floats = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
Numbers = npt.NDArray[np.intp]
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Canvas:
    """Numbers per pixel (H, W): ``surfaces`` carry label and motion, ``skins`` are what is seen.

    They differ where one sees through railings and twigs. Numbers below the count of materials are ground,
    then come ``faces``; ``planes`` (N, 3, 3) are the faces' homographies and ``depth`` (N,) their distance in
    metres.
    """

    surfaces: Numbers
    skins: Numbers
    faces: Faces
    planes: Floats
    depth: Floats
    drawn: Numbers  # index of each face among those given

    def slots(self) -> npt.NDArray[np.uint16]:
        """Identity (H, W) of what each pixel is labelled as, the same from frame to frame."""
        table = np.concatenate([np.full(_FIRST_FACE, GROUND_SLOT), self.faces.slot]).astype(np.uint16)
        return np.asarray(table.take(self.surfaces))

    def labels(self) -> npt.NDArray[np.uint8]:
        """Class ids (H, W) of CAMVID, 255 where nothing of them stands."""
        ground = np.array([label for label, _ in MATERIALS.values()], np.uint8)
        return np.asarray(np.concatenate([ground, self.faces.label]).take(self.surfaces))


def paint(
    shape: tuple[int, int],
    camera: Camera,
    faces: Faces,
    backdrop: int,
    ground: list[tuple[str, Floats]],
    atlas: Atlas,
) -> Canvas:
    """Paint faces from far to near on an (H, W) canvas; the first ``backdrop`` faces go behind the ground."""
    planes = camera.planes(faces.origin, faces.across, faces.down)
    visible, depth = _visible(shape, camera, faces, planes, backdrop)
    order = visible[np.lexsort((faces.order[visible], -depth[visible]))]
    faces, planes, depth = faces.take(order), planes[order], depth[order]
    pad = np.ones((*faces.outline.shape[:2], 1))
    outlines = np.concatenate([faces.outline, pad], -1) @ planes.transpose(0, 2, 1)
    brush = _Brush(shape, faces, planes, outlines, atlas)
    behind = order < backdrop
    for number in np.flatnonzero(behind).tolist():
        brush.face(number)
    for material, polygon in ground:
        brush.ground(MATERIAL_NUMBERS[material], polygon)
    for number in np.flatnonzero(~behind).tolist():
        brush.face(number)
    return Canvas(brush.surfaces.astype(np.intp), brush.skins.astype(np.intp), faces, planes, depth, order)


def _visible(
    shape: tuple[int, int], camera: Camera, faces: Faces, planes: Floats, backdrop: int
) -> tuple[Numbers, Floats]:
    """Indices of faces that may touch the picture, and every face's depth in metres."""
    corners = _CORNERS @ planes.transpose(0, 2, 1)
    depths = corners[..., 2]
    safe = np.maximum(depths, NEAR_M)[..., None]
    pixels = corners[..., :2] / safe
    low, high = pixels.min(1), pixels.max(1)
    # A face that passes the lens has corners whose pixels mean nothing: keep it, clipping decides.
    passes = depths.min(1) < NEAR_M
    on_screen = passes | ((high >= 0).all(1) & (low <= [shape[1] - 1, shape[0] - 1]).all(1))
    depth = (faces.anchor - camera.position) @ camera.rotation[2]
    keep = on_screen & (depths.max(1) > NEAR_M) & (depth < FAR_M)
    keep &= ~faces.one_sided | (np.linalg.det(planes) > 0)
    keep[:backdrop] = True
    return np.flatnonzero(keep), depth


def _sizes(planes: Floats) -> tuple[Floats, Floats]:
    """Length in px of each face's across and down vector at its middle, or far end if that is too near."""
    middle = planes @ [0.5, 0.5, 1.0]
    far = np.where(planes[:, 2, 0] > 0, 1.0, 0.0)
    spot = np.stack([far, np.full(len(planes), 0.5), np.ones(len(planes))], -1)
    ends = (planes @ spot[..., None])[..., 0]
    point = np.where((middle[:, 2] > 1.0)[:, None], middle, ends)
    depth = np.maximum(point[:, 2], 0.05)
    pixel = point[:, :2] / depth[:, None]

    def length(axis: int) -> Floats:
        step = (planes[:, :2, axis] - pixel * planes[:, 2:, axis]) / depth[:, None]
        return np.asarray(np.hypot(step[:, 0], step[:, 1]))

    return length(0), length(1)


class _Brush:
    """Paints numbers: what is the same for all faces is computed for all at once, ahead."""

    def __init__(self, shape: tuple[int, int], faces: Faces, planes: Floats, outlines: Floats, atlas: Atlas) -> None:
        self.surfaces, self.skins = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        self._planes, self._outlines, self._atlas = planes, outlines, atlas
        nearest = outlines[..., 2].min(1)
        self._ahead, self._clear = nearest >= NEAR_M, nearest >= _CLEAR_M
        safe = np.where(self._ahead[:, None, None], outlines, 1.0)
        self._fixed = fixed_point(safe)
        pixels = safe[..., :2] / safe[..., 2:]
        self._low = np.maximum(np.floor(pixels.min(1)), 0).astype(np.intp)
        self._high = np.minimum(np.ceil(pixels.max(1)) + 1, shape[::-1]).astype(np.intp)
        self._sprites = faces.sprite.tolist()
        self._levels = np.stack(atlas.levels(faces.sprite, *_sizes(planes))).min(0).tolist()

    def ground(self, number: int, polygon: Floats) -> None:
        paint_polygon((self.surfaces, self.skins), polygon, number)

    def face(self, face: int) -> None:
        sprite = self._sprites[face]
        seen, labelled = self._atlas.visible[sprite], self._atlas.region[sprite]
        (left, top), (right, bottom) = self._low[face].tolist(), self._high[face].tolist()
        # Masks of a few pixels say nothing that an outline would not.
        if seen is None or (self._clear[face] and bottom - top < _SMALL_PX):
            self._fill(face, (self.surfaces, self.skins))
        elif self._clear[face] and right > left and bottom > top:
            box = left, top, right, bottom
            mask = self._warped(seen[self._levels[face]], face, box)
            self.skins[top:bottom, left:right][mask] = face + _FIRST_FACE
            if self._atlas.framed[sprite]:
                self._fill(face, (self.surfaces,))
                return
            if labelled is not None:
                mask = self._warped(labelled[self._levels[face]], face, box)
            self.surfaces[top:bottom, left:right][mask] = face + _FIRST_FACE

    def _fill(self, face: int, targets: tuple[npt.NDArray[np.uint16], ...]) -> None:
        if not self._ahead[face]:
            paint_polygon(targets, self._outlines[face], face + _FIRST_FACE)
            return
        for target in targets:
            cv2.fillConvexPoly(target, self._fixed[face], (face + _FIRST_FACE,), cv2.LINE_8, SUBPIXEL_BITS)

    def _warped(self, mask: npt.NDArray[np.uint8], face: int, box: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
        left, top, right, bottom = box
        height, width = mask.shape
        place = self._planes[face] * [1 / width, 1 / height, 1.0]
        place[:, 2] += place[:, 0] / 2 + place[:, 1] / 2
        place[0] -= left * place[2]
        place[1] -= top * place[2]
        return np.asarray(cv2.warpPerspective(mask, place, (right - left, bottom - top), flags=cv2.INTER_LINEAR)) > 110


def _through(homographies: Floats, numbers: Numbers, x: Plane, y: Plane) -> tuple[Plane, Plane]:
    """Pixels at x (W,) and y (H,) sent through the homography (N, 3, 3) of their number: x and y (H, W)."""
    table = np.ascontiguousarray(homographies.reshape(-1, 9).T, np.float32)
    across, down = np.empty(numbers.shape, np.float32), np.empty(numbers.shape, np.float32)
    # A band of rows at a time keeps the intermediate planes in the processor's cache, and many low bands show
    # nothing but ground, which is one plane.
    for top in range(0, len(numbers), _BAND_ROWS):
        band = slice(top, top + _BAND_ROWS)
        index, heights = numbers[band], y[band, None]
        rows: list[Plane] = []
        only_ground = index.max() < _FIRST_FACE
        for row in range(3):
            if only_ground:
                a, b, c = table[3 * row : 3 * row + 3, 0]
                rows.append(a * x + (b * heights + c))
                continue
            total = table[3 * row].take(index, mode="clip")
            total *= x
            part = table[3 * row + 1].take(index, mode="clip")
            part *= heights
            total += part
            total += table[3 * row + 2].take(index, mode="clip")
            rows.append(total)
        np.divide(rows[0], rows[2], out=across[band])
        np.divide(rows[1], rows[2], out=down[band])
    return across, down


class Shader:
    """Turns canvases into colours and motion; holds what only depends on the picture's size."""

    def __init__(self, height: int, width: int, atlas: Atlas) -> None:
        self._atlas = atlas
        self._x, self._y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)

    def motion(self, canvas: Canvas, ground: Floats, before: Floats) -> npt.NDArray[np.float32]:
        """Motion (H, W, 2) in px from the frame to the one before.

        ``before`` (N, 3, 3) are the faces' planes there, in the canvas's order; ``ground`` (3, 3) sends
        ground pixels there.
        """
        changes = before @ np.linalg.inv(canvas.planes)
        table = np.concatenate([np.broadcast_to(ground, (_FIRST_FACE, 3, 3)), changes])
        # Scaled so that float32 keeps its digits whatever the depth.
        x, y = _through(table / np.abs(table).max((1, 2), keepdims=True), canvas.surfaces, self._x, self._y)
        x -= self._x
        y -= self._y[:, None]
        return np.asarray(cv2.merge([x, y]), np.float32)

    def colours(self, canvas: Canvas) -> npt.NDArray[np.uint8]:
        """What the sprites show, (H, W, 3) uint8, before light; ground is white."""
        faces, atlas = canvas.faces, self._atlas
        across, down = atlas.levels(faces.sprite, *_sizes(canvas.planes))
        place = np.zeros((len(faces), 3, 3))
        place[:, 0, 0] = atlas.widths[faces.sprite, across]
        place[:, 1, 1] = atlas.heights[faces.sprite, down]
        place[:, 0, 2] = atlas.lefts[faces.sprite, across] - 0.5
        place[:, 1, 2] = atlas.tops[faces.sprite, down] - 0.5
        place[:, 2, 2] = 1.0
        nowhere = np.zeros((_FIRST_FACE, 3, 3))
        nowhere[:, 2, 2] = 1.0
        table = np.concatenate([nowhere, place @ np.linalg.inv(canvas.planes)])
        scale = np.abs(table[:, 2]).max(1)[:, None, None]
        x, y = _through(table / scale, canvas.skins, self._x, self._y)
        return np.asarray(cv2.remap(atlas.sheet, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def ground_points(self, camera: Camera, top: int) -> tuple[Plane, Plane]:
        """Camera-relative x and z in metres of the ground seen from row ``top`` down, each (H - top, W)."""
        inverse = np.linalg.inv(camera.ground()).astype(np.float32)
        down = self._y[top:, None]
        x, z, w = (row[0] * self._x + (row[1] * down + row[2]) for row in inverse)
        w[np.abs(w) < 1e-6] = 1e-6
        x /= w
        z /= w
        return x, z
