"""A rendered street: procedural driving video of unlimited length with exact labels and exact motion.

    street = Street(seed=3, height=360, width=480, rate_hz=15.0)
    for frame in itertools.islice(street, 100):
        ...

Labels are CamVid's 11 classes (255 where nothing of them stands). A frame depends on the seed and its index
alone, so frames may be asked for in any order; in order is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID
from tdnet_ros.training.street.actors import Traffic
from tdnet_ros.training.street.atlas import Atlas, SpriteBook
from tdnet_ros.training.street.camera import Camera, EgoDrive, Floats, RoadPath
from tdnet_ros.training.street.draw import Canvas, Shader, paint
from tdnet_ros.training.street.faces import FaceBuilder, Faces, join
from tdnet_ros.training.street.ground import FAR_M, MATERIALS, Ground, shade_map
from tdnet_ros.training.street.layout import Cell, make_layout
from tdnet_ros.training.street.lens import Lens
from tdnet_ros.training.street.library import paint_library
from tdnet_ros.training.street.light import Light, Weather
from tdnet_ros.training.street.scene import Scenery

#: How far ahead cells are built, in metres.
VIEW_M = 150.0
_LANE = -1.5
_BACKDROP = 2
_SKY_SLOT, _SKYLINE_SLOT = 2, 3


@dataclass(frozen=True)
class StreetFrame:
    """One rendered frame.

    ``image`` (H, W, 3) uint8 RGB; ``labels`` (H, W) uint8 ids of CAMVID or 255; ``motion`` (H, W, 2) float32
    is (dx, dy) in px from this frame to the one before, so a pixel was at its place plus its motion;
    ``valid`` (H, W) bool is true where that place lay inside the frame before and showed the same surface.
    Frame 0 has motion, as the street has a past, but nothing valid. ``stamp_ns`` counts from the first frame.
    """

    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    motion: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    stamp_ns: int


@dataclass(frozen=True)
class _View:
    """Everything that one frame shows, and where it was the frame before."""

    camera: Camera
    faces: Faces
    moving: int  # the first so many faces are not fixed to the world
    cells: list[Cell]
    contacts: Floats
    ground: list[tuple[str, Floats]]


class Street:
    """A drive down one street.

    Raises ConfigurationError for a negative seed, a size below 16 px or a rate that is not positive.
    """

    def __init__(self, seed: int = 0, height: int = 360, width: int = 480, rate_hz: float = 15.0) -> None:
        if seed < 0:
            raise ConfigurationError(f"street seed is {seed}, expected 0 or more")
        if min(height, width) < 16:
            raise ConfigurationError(f"street size is {width}x{height}, expected at least 16x16")
        if not 0 < rate_hz < float("inf"):
            raise ConfigurationError(f"rate_hz is {rate_hz}, expected a positive number")
        self.seed, self.height, self.width, self.rate_hz = seed, height, width, rate_hz
        rng = np.random.default_rng([seed, 7])
        path_rng, layout_rng, art_rng, ego_rng, traffic_rng, lens_rng = rng.spawn(6)
        self._path = RoadPath(path_rng)
        layout = make_layout(layout_rng)
        self._weather = Weather(layout_rng)
        self._ground = Ground(layout_rng, self._path, layout)
        book = SpriteBook()
        library = paint_library(art_rng, book)
        self._sky, self._skyline = (
            book.add(self._weather.sky(art_rng)),
            book.add(self._weather.skyline(art_rng)),
        )
        self._atlas = Atlas(book.sprites)
        self._scenery = Scenery(seed, self._path, layout, library)
        self._ego = EgoDrive(ego_rng, self._path, _LANE, height, width)
        self._traffic = Traffic(seed, traffic_rng, self._path, self._ego, layout, library, _LANE)
        self._shader = Shader(height, width, self._atlas)
        self._lens = Lens(seed, lens_rng, height, width, self._weather)
        self._last: tuple[int, npt.NDArray[np.uint16]] | None = None

    @property
    def weather(self) -> str:
        """The seed's weather, one of light.WEATHERS."""
        return self._weather.kind

    def __iter__(self) -> Iterator[StreetFrame]:
        """Frames 0, 1, 2 and so on without end."""
        index = 0
        while True:
            yield self.render(index)
            index += 1

    def render(self, index: int) -> StreetFrame:
        """The frame at ``index`` (at least 0); raises ConfigurationError below."""
        if index < 0:
            raise ConfigurationError(f"frame index is {index}, expected 0 or more")
        view = self._view(index)
        canvas = self._paint(view)
        before = self._ego.camera((index - 1) / self.rate_hz)
        motion = self._motion(view, canvas, before, index)
        slots = canvas.slots()
        valid = np.zeros(slots.shape, np.bool_)
        if index > 0:
            valid = _same_surface(slots, self._slots_before(index), motion)
        self._last = index, slots
        image = self._lens.record(self._shaded(view, canvas, index), canvas.skins, index)
        return StreetFrame(image, canvas.labels(), motion, valid, round(index * 1e9 / self.rate_hz))

    def _slots_before(self, index: int) -> npt.NDArray[np.uint16]:
        if self._last is not None and self._last[0] == index - 1:
            return self._last[1]
        return self._paint(self._view(index - 1)).slots()

    def _view(self, index: int) -> _View:
        time_s = index / self.rate_hz
        camera, z = self._ego.camera(time_s), self._ego.distance(time_s)
        cells, standing = self._scenery.cells(z - 4.0, z + VIEW_M)
        cast = self._traffic.at(time_s, time_s)
        moving = join([self._backdrop(camera), cast.faces])
        ground = self._ground.polygons(camera, z, cells)
        return _View(camera, join([moving, standing]), len(moving), cells, cast.contacts, ground)

    def _backdrop(self, camera: Camera) -> Faces:
        """Sky and skyline: planes that travel with the camera, so that only its turning moves them."""
        build, far = FaceBuilder(_SKY_SLOT), 10000.0
        here = camera.position
        sky, tree = CAMVID.names.index("sky"), CAMVID.names.index("tree")
        ahead = here + np.array([0.0, 0.0, far])
        build.upright(
            ahead - [0, 0.06 * far, 0], np.array([1.0, 0, 0]), 3 * far, 1.06 * far, self._sky, sky, sunlit=0.0
        )
        ahead = here + np.array([0.0, -0.012, 0.99]) * far
        build.upright(ahead, np.array([1.0, 0, 0]), 3 * far, 0.055 * far, self._skyline, tree, sunlit=0.2)
        return build.build()

    def _paint(self, view: _View) -> Canvas:
        return paint((self.height, self.width), view.camera, view.faces, _BACKDROP, view.ground, self._atlas)

    def _motion(self, view: _View, canvas: Canvas, before: Camera, index: int) -> npt.NDArray[np.float32]:
        """Exact motion (H, W, 2): standing faces move by the camera alone, actors also by their own steps."""
        cast = self._traffic.at((index - 1) / self.rate_hz, index / self.rate_hz)
        earlier = join([self._backdrop(before), cast.faces])
        moves = canvas.drawn < view.moving
        origin, across, down = (getattr(canvas.faces, name).copy() for name in ("origin", "across", "down"))
        origin[moves] = earlier.origin[canvas.drawn[moves]]
        across[moves] = earlier.across[canvas.drawn[moves]]
        down[moves] = earlier.down[canvas.drawn[moves]]
        planes = before.planes(origin, across, down)
        shift = np.eye(3)
        shift[:2, 2] = (view.camera.position - before.position)[[0, 2]]
        ground = before.ground() @ shift @ np.linalg.inv(view.camera.ground())
        return self._shader.motion(canvas, ground, planes)

    def _shaded(self, view: _View, canvas: Canvas, index: int) -> npt.NDArray[np.float32]:
        """Colours (H, W, 3) float32 in 0..255 with light, shade and haze."""
        light = self._weather.at(index / self.rate_hz)
        faces = canvas.faces
        gain, glow = self._face_light(light, faces, canvas.depth)
        colours = self._shader.colours(canvas).astype(np.float32)
        colours *= gain.take(canvas.skins, axis=0, mode="clip")
        self._light_ground(colours, view, canvas, light)
        colours += glow.take(canvas.skins, axis=0, mode="clip")
        return colours

    def _face_light(self, light: Light, faces: Faces, depth: Floats) -> tuple[npt.NDArray[np.float32], ...]:
        """Factors and offsets (materials + N, 3) on the colours of the ground's materials and of faces."""
        normal = np.cross(faces.across, faces.down)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        facing = np.clip(normal @ self._weather.sun_direction, 0, 1)
        sunlit = np.where(np.isnan(faces.sunlit), facing, faces.sunlit).astype(np.float32)
        gain = faces.tint * (light.ambient + light.sun * sunlit[:, None]) * np.float32(light.exposure)
        clear = np.exp(-np.maximum(depth, 0) / light.visibility_m).astype(np.float32)[:, None]
        gain, glow = gain * clear, (1 - clear) * light.haze * np.float32(light.exposure)
        behind = faces.slot == _SKY_SLOT
        gain[behind], glow[behind] = 1.0, 0.0
        far = faces.slot == _SKYLINE_SLOT
        gain[far], glow[far] = light.ambient * np.float32(light.exposure), 0.0
        grounds = np.array([colour for _, colour in MATERIALS.values()], np.float32) / 255
        lit = light.ambient + light.sun * np.float32(max(self._weather.sun_direction[1], 0.0))
        grounds = grounds * lit * np.float32(light.exposure)
        return np.concatenate([grounds, gain]), np.concatenate([np.zeros_like(grounds), glow])

    def _light_ground(self, colours: npt.NDArray[np.float32], view: _View, canvas: Canvas, light: Light) -> None:
        """Grain, cast shadows and haze on the ground's pixels of ``colours``, in place."""
        is_ground = canvas.skins < len(MATERIALS)
        rows = np.flatnonzero(is_ground.any(1))
        if not len(rows):
            return
        top = int(rows[0])
        is_ground = is_ground[top:]
        x, z = self._shader.ground_points(view.camera, top)
        np.clip(z, 0.0, FAR_M, out=z)
        np.clip(x, -FAR_M, FAR_M, out=x)
        shade = shade_map(
            canvas.skins.shape,
            view.camera,
            view.cells,
            view.contacts,
            self._weather.sun_direction,
            light.shadow,
        )[top:]
        factor = self._ground.texture(x, z, view.camera)
        factor *= shade
        clear = np.exp(z * np.float32(-1 / light.visibility_m))
        factor *= clear
        factor[~is_ground] = 1
        clear[~is_ground] = 1
        below = colours[top:]
        below *= cv2.merge([factor] * 3)
        hazy = 1 - clear
        below += cv2.merge([hazy * (level * np.float32(light.exposure)) for level in light.haze])


def _same_surface(
    slots: npt.NDArray[np.uint16], before: npt.NDArray[np.uint16], motion: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """Whether each pixel's place in the frame before lies inside it and shows the same slot there."""
    height, width = slots.shape
    x = motion[..., 0] + np.arange(width, dtype=np.float32)
    y = motion[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    # No surface has slot 0, so places outside never match.
    there = cv2.remap(before, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(there == slots)


def write_clip(
    path: str | Path, frames: int, seed: int = 0, height: int = 360, width: int = 480, rate_hz: float = 15.0
) -> None:
    """Render ``frames`` frames to an H.264 mp4: no B-frames, one reference frame, a keyframe every 12.

    Raises ConfigurationError for odd sizes, which the format's halved colour planes cannot hold, and for no
    frames.
    """
    if height % 2 or width % 2:
        raise ConfigurationError(f"clip size is {width}x{height}, expected even numbers")
    if frames < 1:
        raise ConfigurationError(f"clip length is {frames} frames, expected at least 1")
    street = Street(seed, height, width, rate_hz)
    rate = Fraction(rate_hz).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "20", "bf": "0", "refs": "1", "g": "12", "sc_threshold": "0"}
        for index in range(frames):
            picture = av.VideoFrame.from_ndarray(street.render(index).image, format="rgb24")
            picture.pts = index
            picture.time_base = 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
