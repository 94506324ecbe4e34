"""Random clips, cut and changed on the device that holds the frames.

The choice of a step's clips depends on seed, stage and step alone. All processes choose the clips of the whole batch
and make their own share of them, so that more processes train on the same clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.labels import UNLABELLED
from tdnet_ros.training.configuration import AugmentationSettings
from tdnet_ros.training.frame_store import STREET, FrameStore
from tdnet_ros.training.teacher_maps import TeacherMaps, TeacherView

Floats = npt.NDArray[np.float64]


class Clips(NamedTuple):
    """RGB images (T, B, 3, h, w) in 0..1 and labels (T, B, h, w) int64, oldest first.

    ``teacher``: what the teacher says of the newest frames, where there is one.
    """

    images: Tensor
    labels: Tensor
    teacher: TeacherView | None


class Light(NamedTuple):
    """How one clip's pictures are recoloured: gamma, gain (3,), offset and the standard deviation of noise, 0 to 1."""

    gamma: float
    gain: Floats
    offset: float
    noise: float
    noise_seed: int


class Draw(NamedTuple):
    """One clip: its frames, a map from picture to crop (3, 3) for each, and its light."""

    frames: list[int]
    views: list[Floats]
    light: Light


class DeviceClips:
    """Draws clips from a store; ``teacher`` holds the scores of its frames to cut out with them, where set."""

    def __init__(
        self, store: FrameStore, settings: AugmentationSettings, drive_balance: float, street_share: float = 0.0
    ) -> None:
        self.store = store
        self.settings = settings
        self.teacher: TeacherMaps | None = None
        drives = Counter(store.sequences)
        shares = np.array([drives[name] ** (drive_balance - 1.0) for name in store.sequences])
        rendered = np.array([name.startswith(STREET) for name in store.sequences])
        if street_share and rendered.any() and not rendered.all():
            shares *= np.where(
                rendered, street_share / shares[rendered].sum(), (1 - street_share) / shares[~rendered].sum()
            )
        self.probabilities = shares / shares.sum()

    def batch(self, seed: tuple[int, ...], size: int, length: int, rank: int = 0, processes: int = 1) -> Clips:
        """Process ``rank``'s share of the ``size`` clips of ``length`` frames that the seed stands for."""
        random = np.random.default_rng(seed)
        draws = [self._draw(random, length) for _ in range(size)]
        return self._render(draws[rank * size // processes : (rank + 1) * size // processes], length)

    def newest(self, random: np.random.Generator) -> int:
        """A clip's newest frame."""
        return int(random.choice(len(self.probabilities), p=self.probabilities))

    def _draw(self, random: np.random.Generator, length: int) -> Draw:
        newest, settings = self.newest(random), self.settings
        view = self.view(random)
        frames, views = [newest] * length, [view]
        slow = random.random() < settings.slow_share
        if length > 1 and (
            self._follow(newest, length, settings.dense_gap_s)
            or (slow and self._follow(newest, length, settings.slow_gap_s))
        ):
            frames, views = list(range(newest - length + 1, newest + 1)), [view] * length
        else:
            for _ in range(length - 1):
                views.insert(0, self._camera_motion(random) @ views[0])
        return Draw(frames, views, self.light(random))

    def light(self, random: np.random.Generator) -> Light:
        """Light, colour and noise of one clip."""
        strength = self.settings.photometric
        gamma = float(np.exp(strength * random.uniform(-0.3, 0.3)))
        gain = 1 + strength * (random.uniform(0.75, 1.25) * random.uniform(0.94, 1.06, 3) - 1)
        offset = strength * random.uniform(-20, 20) / 255
        noise = self.settings.noise * random.uniform() / 255
        return Light(gamma, gain, offset, noise, int(random.integers(2**31)))

    def is_stream(self, first: int, last: int) -> bool:
        """Whether the frames of these numbers, and all between, are of one stream."""
        return self._follow(last, last - first + 1, self.settings.dense_gap_s)

    def _follow(self, newest: int, length: int, gap_s: float) -> bool:
        """Whether the frames up to ``newest`` are of one drive and at most that far apart."""
        first, store = newest - length + 1, self.store
        return first >= 0 and all(
            store.sequences[i] == store.sequences[i + 1] and 0 < store.times_s[i + 1] - store.times_s[i] <= gap_s
            for i in range(first, newest)
        )

    def view(self, random: np.random.Generator) -> Floats:
        """Map from picture to crop: random scale, mirror and place."""
        (height, width), (rows, columns) = self.store.labels.shape[1:], self.settings.crop
        scale = float(np.exp(random.uniform(*np.log(self.settings.scale))))
        mirrored = random.random() < 0.5 and self.settings.flip
        slack_x, slack_y = width * scale - columns, height * scale - rows
        x = random.uniform(min(0.0, slack_x), max(0.0, slack_x))
        y = random.uniform(min(0.0, slack_y), max(0.0, slack_y))
        if mirrored:
            return np.array([[-scale, 0, width * scale - x], [0, scale, -y], [0, 0, 1]])
        return np.array([[scale, 0, -x], [0, scale, -y], [0, 0, 1]])

    def _camera_motion(self, random: np.random.Generator) -> Floats:
        """Map inside the crop: the older frame is seen from further back and a little to the side."""
        (rows, columns), settings = self.settings.crop, self.settings
        zoom = 1 - abs(random.normal(0, settings.motion_zoom / 2))
        dx, dy = random.normal(0, settings.motion_shift_px / 2, 2)
        return np.array([[zoom, 0, (1 - zoom) * columns / 2 + dx], [0, zoom, (1 - zoom) * rows / 2 + dy], [0, 0, 1]])

    def _render(self, draws: list[Draw], length: int) -> Clips:
        store, (rows, columns) = self.store, self.settings.crop
        device = store.images.device
        theta = torch.tensor(
            np.stack([self.unit_map(draw.views[t]) for t in range(length) for draw in draws])[:, :2],
            dtype=torch.float32,
            device=device,
        )
        index = torch.tensor([draw.frames[t] for t in range(length) for draw in draws], device=device)
        grid = F.affine_grid(theta, [len(theta), 3, rows, columns], align_corners=False)
        images = relight(cut_images(store, index, grid), [draw.light for draw in draws])
        labels = cut_labels(store, index, grid)
        shape, newest = (length, len(draws)), slice(-len(draws), None)
        teacher = self.teacher.view(index[newest], theta[newest], (rows, columns)) if self.teacher else None
        return Clips(images.view(*shape, 3, rows, columns), labels.view(*shape, rows, columns), teacher)

    def unit_map(self, view: Floats) -> Floats:
        """Map (3, 3) from the crop's to the picture's coordinates, both from -1 to 1 at the borders, of a view."""
        height, width = self.store.labels.shape[1:]
        rows, columns = self.settings.crop
        from_unit = np.array([[columns / 2, 0, columns / 2], [0, rows / 2, rows / 2], [0, 0, 1]])
        to_unit = np.array([[2 / width, 0, -1], [0, 2 / height, -1], [0, 0, 1]])
        return np.asarray(to_unit @ np.linalg.inv(view) @ from_unit, np.float64)


def cut_images(store: FrameStore, index: Tensor, grid: Tensor) -> Tensor:
    """Frames (N,) sampled at places (N, h, w, 2) from -1 to 1: (N, 3, h, w) in 0..1, black beyond the picture."""
    return F.grid_sample(store.images[index].float() / 255, grid, align_corners=False)


def cut_labels(store: FrameStore, index: Tensor, grid: Tensor) -> Tensor:
    """As ``cut_images`` their labels (N, h, w) int64, unlabelled beyond the picture."""
    # Shifted by one, so that unlabelled pixels and those outside the picture are both 0.
    shifted = torch.where(store.labels[index] == UNLABELLED, 0, store.labels[index] + 1).float()
    ids = F.grid_sample(shifted[:, None], grid, mode="nearest", align_corners=False)[:, 0].long()
    return torch.where(ids == 0, UNLABELLED, ids - 1)


def relight(images: Tensor, lights: Sequence[Light]) -> Tensor:
    """Images (T * B, 3, h, w) of B clips of T frames, frame after frame, each clip in its light."""
    device, length = images.device, len(images) // len(lights)

    def per_clip(values: object) -> Tensor:
        told = torch.tensor(np.array(values), dtype=torch.float32, device=device)
        return told.view(len(lights), -1, 1, 1).repeat(length, 1, 1, 1)

    gamma, gain, offset = (per_clip([getattr(light, name) for light in lights]) for name in ("gamma", "gain", "offset"))
    images = images.clamp(0, 1) ** gamma * gain + offset
    if any(light.noise for light in lights):
        images += per_clip([light.noise for light in lights]) * _noise(lights, images.shape, device)
    return images.clamp(0, 1)


def _noise(lights: Sequence[Light], shape: torch.Size, device: torch.device) -> Tensor:
    """Standard normal noise, another for each frame, the same for a clip whichever process makes it."""
    clips = len(lights)
    noise = torch.empty((shape[0] // clips, clips, *shape[1:]), device=device)
    for index, light in enumerate(lights):
        generator = torch.Generator(device).manual_seed(light.noise_seed)
        noise[:, index] = torch.randn(noise[:, index].shape, generator=generator, device=device)
    return noise.view(shape)
