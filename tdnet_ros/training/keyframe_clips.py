"""Clips of a keyframe and a frame some way behind it, with the motion between the two, made on the device.

Where frames are a stream that was decoded (``data.compression``), the frames and their motion are the stream's own,
chained from the current frame back to the keyframe as ``MotionChain`` does. Elsewhere all frames of a clip are one
labelled picture under a camera's motion, which is known exactly and is then told as a codec would tell it: by cells
of 8 px, in quarters of a pixel, off by some noise, here and there wrong or missing. What a network is fused with has to
teach it when not to trust the keyframe: so the pictures are coded each at its own quality, and keyframes may show
something that is gone afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.training.block_transform import quantise_blocks
from tdnet_ros.training.camera_motion import CameraMotion, Floats, draw_camera_motion, move
from tdnet_ros.training.configuration import KeyframeSettings
from tdnet_ros.training.device_clips import DeviceClips, Light, cut_images, cut_labels, relight
from tdnet_ros.training.frame_store import FrameStore
from tdnet_ros.training.teacher_maps import TeacherView
from tdnet_ros.video.frame import CELL_PX


class KeyframeClips(NamedTuple):
    """B clips of T frames, oldest first. The last is the current one, ``distance`` (B,) frames behind its keyframe.

    ``images`` (T, B, 3, h, w) in 0..1 and ``labels`` (T, B, h, w) int64. ``keyframe`` is the keyframe's index in T: the
    frames before it are those right before the keyframe, the ones behind it those right before the current one.
    ``motion`` (B, 3, ceil(h/8), ceil(w/8)) leads from the current frame to the keyframe: dx and dy in px of ``images``,
    and 1 where that is known. ``teacher``: what the teacher says of the current frames, where there is one.
    """

    images: Tensor
    labels: Tensor
    keyframe: int
    motion: Tensor
    distance: Tensor
    teacher: TeacherView | None


class KeyframeDraw(NamedTuple):
    """One clip: its frames, how many frames before the current one each was seen, the map from picture to crop, its
    light, and its camera where all frames are one picture (None: they are a stream)."""

    frames: list[int]
    back: list[int]
    view: Floats
    light: Light
    camera: CameraMotion | None


class KeyframeDrawing:
    """Draws clips with a keyframe from the store of ``clips``, with its augmentation and its teacher."""

    def __init__(self, clips: DeviceClips, settings: KeyframeSettings) -> None:
        self.clips = clips
        self.settings = settings
        self.path_length = path_lengths(clips.store)

    def batch(
        self,
        seed: tuple[int, ...],
        size: int,
        interval: int,
        before: int = 0,
        between: int = 0,
        rank: int = 0,
        processes: int = 1,
    ) -> KeyframeClips:
        """Process ``rank``'s share of the ``size`` clips that the seed stands for.

        Distances are even over 1..interval-1. A clip has ``before`` frames before its keyframe, and behind it as many
        frames right before the current one as lie there, at most ``between``: in one batch all have the same number.
        """
        random = np.random.default_rng(seed)
        first = int(random.integers(1, interval))
        if first > between:
            distances = [int(random.integers(between + 1, interval)) for _ in range(size)]
        else:
            between, distances = first - 1, [first] * size
        draws = [self._draw(random, distance, before, between) for distance in distances]
        share = slice(rank * size // processes, (rank + 1) * size // processes)
        return self._render(draws[share], distances[share], before)

    def _draw(self, random: np.random.Generator, distance: int, before: int, between: int) -> KeyframeDraw:
        clips = self.clips
        newest, view = clips.newest(random), clips.view(random)
        back = [*range(distance + before, distance - 1, -1), *range(between, -1, -1)]
        camera = draw_camera_motion(random, self.settings)
        oldest = newest - back[0]
        streamed = self.path_length[newest] >= distance and clips.is_stream(oldest, newest)
        frames = [newest - steps for steps in back] if streamed else [newest] * len(back)
        return KeyframeDraw(frames, back, view, clips.light(random), None if streamed else camera)

    def _render(self, draws: list[KeyframeDraw], distances: list[int], keyframe: int) -> KeyframeClips:
        clips, store = self.clips, self.clips.store
        rows, columns = clips.settings.crop
        device, length = store.images.device, len(draws[0].back)
        views = [_seen(draw, t, (rows, columns)) @ draw.view for t in range(length) for draw in draws]
        maps = torch.tensor(np.stack([clips.unit_map(v) for v in views]), dtype=torch.float32, device=device)
        index = torch.tensor([draw.frames[t] for t in range(length) for draw in draws], device=device)
        grid = _projective_grid(maps, rows, columns)
        images = cut_images(store, index, grid)
        labels = cut_labels(store, index, grid).view(length, len(draws), rows, columns)
        randoms = [np.random.default_rng(draw.light.noise_seed) for draw in draws]
        shape = (length, len(draws), 3, rows, columns)
        for number, (draw, random) in enumerate(zip(draws, randoms, strict=True)):
            if draw.camera is not None and random.random() < self.settings.occluder_share:
                _show_elsewhere(images.view(shape)[keyframe, number], labels[keyframe, number], random)
        images = relight(images, [draw.light for draw in draws])
        if self.settings.quantisation:
            steps = np.array([_steps(self.settings, draw, random, keyframe) for draw, random in
                              zip(draws, randoms, strict=True)]).T.ravel()  # fmt: skip
            coded = torch.from_numpy(steps > 0).to(device)
            chosen = torch.tensor(steps[steps > 0], dtype=torch.float32, device=device)
            images[coded] = quantise_blocks(images[coded], chosen)
        motion = self._motion(draws, distances, randoms)
        newest = slice(-len(draws), None)
        teacher = clips.teacher.view(index[newest], maps[newest, :2], (rows, columns)) if clips.teacher else None
        return KeyframeClips(
            images.view(shape), labels, keyframe, motion, torch.tensor(distances, device=device), teacher
        )

    def _motion(self, draws: list[KeyframeDraw], distances: list[int], randoms: list[np.random.Generator]) -> Tensor:
        device, (rows, columns) = self.clips.store.images.device, self.clips.settings.crop
        height, width = -(-rows // CELL_PX), -(-columns // CELL_PX)
        field = torch.zeros(len(draws), 3, height, width, device=device)
        streamed = [number for number, draw in enumerate(draws) if draw.camera is None]
        if streamed:
            newest = torch.tensor([draws[number].frames[-1] for number in streamed], device=device)
            chosen = torch.tensor([distances[number] for number in streamed], device=device)
            chained = chain_motion(self.clips.store, newest, chosen)
            field[streamed] = _cut_motion(chained, [draws[number].view for number in streamed], (rows, columns))
        for number, draw in enumerate(draws):
            if draw.camera is not None:
                homography = draw.camera.back(distances[number], (rows, columns))
                told = told_motion(homography, (rows, columns), distances[number], self.settings, randoms[number])
                field[number] = torch.from_numpy(told).to(device)
        return field


def path_lengths(store: FrameStore) -> list[int]:
    """By frame, over how many frames back its motion can be followed: 0 where it is not known or has no path."""
    if store.has_motion is None:
        return [0] * len(store.sequences)
    lengths: list[int] = []
    for number, known in enumerate(store.has_motion.tolist()):
        lengths.append(lengths[-1] + 1 if known and number else 0)
    return lengths


def chain_motion(store: FrameStore, frames: Tensor, distances: Tensor) -> Tensor:
    """Motion of frames (B,) to those ``distances`` (B,) before them: (B, 3, ceil(H/8), ceil(W/8)), px and validity.

    D_t(x) = m_t(x) + D_{t-1}(x + m_t(x)), as ``tdnet_ros.video.motion.MotionChain``. All hops must have a path.
    """
    assert store.motion is not None and store.motion_valid is not None, "frames of a stream have motion"
    rows, columns = store.motion.shape[2:]
    total = torch.zeros(len(frames), 3, rows, columns, device=frames.device)
    total[:, 2] = 1
    y, x = torch.meshgrid(*(torch.arange(n, device=frames.device) + 0.5 for n in (rows, columns)), indexing="ij")
    size = torch.tensor([columns, rows], device=frames.device)
    for hop in range(int(distances.max())):
        number = frames - (distances - 1 - hop).clamp(min=0)
        step = store.motion[number]
        places = torch.stack([x + step[:, 0] / CELL_PX, y + step[:, 1] / CELL_PX], -1)
        found = F.grid_sample(total, places / size * 2 - 1, padding_mode="border", align_corners=False)
        moved = found[:, :2] + step
        end = torch.stack([x + moved[:, 0] / CELL_PX, y + moved[:, 1] / CELL_PX], -1)
        inside = ((end >= 0) & (end <= size)).all(-1)
        valid = (found[:, 2] >= 0.5) & store.motion_valid[number] & inside
        after = torch.cat([moved, valid[:, None].to(moved.dtype)], 1)
        total = torch.where((hop < distances)[:, None, None, None], after, total)
    return total


def told_motion(
    homography: Floats, size: tuple[int, int], distance: int, settings: KeyframeSettings, random: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A known motion as a codec tells it: (3, ceil(h/8), ceil(w/8)) float32 for pictures of ``size`` (h, w)."""
    rows, columns = (-(-side // CELL_PX) for side in size)
    y, x = np.meshgrid((np.arange(rows) + 0.5) * size[0] / rows, (np.arange(columns) + 0.5) * size[1] / columns,
                       indexing="ij")  # fmt: skip
    places = np.column_stack([x.ravel(), y.ravel()])
    end = move(places, homography)
    # A vector is good or bad for a whole area rather than for one cell.
    areas = random.random((2, -(-rows // 2), -(-columns // 2))).repeat(2, 1).repeat(2, 2)[:, :rows, :columns]
    areas = 0.85 * areas + 0.15 * random.random((2, rows, columns))
    limits = np.quantile(areas, [random.random() * share for share in (settings.wrong_share, settings.unknown_share)])
    wrong, unknown = areas[0] < limits[0], areas[1] < limits[1]
    noise = random.random() * settings.vector_noise_px * np.sqrt(distance)
    moved = (end - places).T.reshape(2, rows, columns) + random.normal(0, max(noise, 1e-9), (2, rows, columns))
    moved = np.where(wrong, moved + random.normal(0, 4 * np.sqrt(distance), (2, rows, columns)), moved)
    moved = np.round(4 * moved) / 4
    end = places.T.reshape(2, rows, columns) + moved
    inside = (end >= 0).all(0) & (end[0] <= size[1]) & (end[1] <= size[0])
    return np.concatenate([moved, (inside & ~unknown)[None]]).astype(np.float32)


def _cut_motion(field: Tensor, views: list[Floats], crop: tuple[int, int]) -> Tensor:
    """Motion of whole frames (B, 3, h, w) seen in crops, by affine maps from picture to crop."""
    device, (rows, columns) = field.device, crop
    height, width = -(-rows // CELL_PX), -(-columns // CELL_PX)
    y, x = torch.meshgrid(
        (torch.arange(height, device=device) + 0.5) * rows / height,
        (torch.arange(width, device=device) + 0.5) * columns / width,
        indexing="ij",
    )
    places = torch.stack([x, y, torch.ones_like(x)], -1)
    back = torch.tensor(np.stack([np.linalg.inv(view)[:2] for view in views]), dtype=torch.float32, device=device)
    linear = torch.tensor(np.stack([view[:2, :2] for view in views]), dtype=torch.float32, device=device)
    size = CELL_PX * torch.tensor([field.shape[3], field.shape[2]], device=device)
    grid = torch.einsum("hwk,bik->bhwi", places, back) / size * 2 - 1
    moved = F.grid_sample(field[:, :2], grid, padding_mode="border", align_corners=False)
    moved = torch.einsum("bij,bjhw->bihw", linear, moved)
    valid = F.grid_sample(field[:, 2:], grid, mode="nearest", align_corners=False)[:, 0] > 0.5
    end = places[..., :2] + moved.permute(0, 2, 3, 1)
    inside = ((end >= 0) & (end <= torch.tensor([columns, rows], device=device))).all(-1)
    return torch.cat([moved, (valid & inside)[:, None].to(moved.dtype)], 1)


def _seen(draw: KeyframeDraw, t: int, crop: tuple[int, int]) -> Floats:
    """Map (3, 3) of the current crop to where frame t's camera saw it."""
    return np.eye(3) if draw.camera is None else draw.camera.back(draw.back[t], crop)


def _projective_grid(maps: Tensor, rows: int, columns: int) -> Tensor:
    """Places (N, rows, columns, 2) by maps (N, 3, 3) between coordinates that run from -1 to 1 at the borders."""
    y, x = torch.meshgrid(
        *((2 * torch.arange(n, device=maps.device) + 1) / n - 1 for n in (rows, columns)), indexing="ij"
    )
    points = torch.stack([x, y, torch.ones_like(x)], -1).view(-1, 3)
    mapped = points @ maps.transpose(1, 2)
    return (mapped[..., :2] / mapped[..., 2:]).view(-1, rows, columns, 2)


def _show_elsewhere(image: Tensor, labels: Tensor, random: np.random.Generator) -> None:
    """Put a part of the picture (3, h, w) and of its labels (h, w) over another part, in place."""
    rows, columns = labels.shape
    height, width = (int(side * random.uniform(0.1, 0.4)) for side in (rows, columns))
    (top, other_top), (left, other_left) = (
        random.integers(0, side - part + 1, 2) for side, part in ((rows, height), (columns, width))
    )
    image[:, top : top + height, left : left + width] = image[
        :, other_top : other_top + height, other_left : other_left + width
    ].clone()
    labels[top : top + height, left : left + width] = labels[
        other_top : other_top + height, other_left : other_left + width
    ].clone()


def _steps(settings: KeyframeSettings, draw: KeyframeDraw, random: np.random.Generator, keyframe: int) -> Floats:
    """Quantisation by frame; a keyframe is coded no worse than the others, a stream has been coded already."""
    if draw.camera is None or random.random() > settings.quantised_share:
        return np.zeros(len(draw.frames))
    steps = settings.quantisation * random.uniform(0.1, 1.0) * random.uniform(0.7, 1.0, len(draw.frames))
    steps[keyframe] *= random.uniform(0.3, 1.0)
    return np.asarray(steps, np.float64)
