"""Labelled frames on the device: uploaded once as bytes, so that no processor feeds a GPU while it trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tdnet_ros.errors import ConfigurationError, SourceError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.training.configuration import DataSettings, StreetSettings
from tdnet_ros.training.datasets import LabelledFrame, read_labelled_frames
from tdnet_ros.video.frame import Break, MotionField

#: Names of rendered sequences start so, with seed and run behind.
STREET = "street-"


class FrameStore:
    """Frames of one size: ``images`` (N, 3, H, W) and ``labels`` (N, H, W), both uint8 on the device.

    ``motion`` (N, 2, ceil(H/8), ceil(W/8)) float32 is where each cell was in the frame before, (dx, dy) in px of the
    picture, and ``motion_valid`` (N, ceil(H/8), ceil(W/8)) where that is known: nowhere in a frame without a path to
    the one before (``has_motion`` (N,) is False). All three are None where no frame was decoded from a stream.
    Raises SourceError when there are none or their sizes differ, and for labels outside the set.
    """

    def __init__(self, frames: Sequence[LabelledFrame], classes: int, device: torch.device) -> None:
        if not frames:
            raise SourceError("data has no frames to train on, expected some beside the selection sequence")
        for frame in frames:
            check_frame(frame, classes, frames[0].image.shape)
        self.sequences = [frame.sequence for frame in frames]
        self.times_s = [frame.timestamp_s for frame in frames]
        self.images = torch.from_numpy(np.stack([f.image.transpose(2, 0, 1) for f in frames])).to(device)
        self.labels = torch.from_numpy(np.stack([f.labels for f in frames])).to(device)
        self.motion = self.motion_valid = self.has_motion = None
        if any(frame.motion is not None for frame in frames):
            none = MotionField.without_path(frames[0].image.shape[0], frames[0].image.shape[1], Break.START)
            fields = [frame.motion or none for frame in frames]
            self.motion = torch.from_numpy(np.stack([f.displacement_px.transpose(2, 0, 1) for f in fields])).to(device)
            self.motion_valid = torch.from_numpy(np.stack([f.valid for f in fields])).to(device)
            self.has_motion = torch.tensor([f.broken is None for f in fields], device=device)


def check_frame(frame: LabelledFrame, classes: int, shape: tuple[int, ...]) -> None:
    """Raise SourceError for another size than ``shape`` (H, W, 3) and for labels outside the set."""
    where = f"frame {frame.number} of sequence '{frame.sequence}'"
    if frame.image.shape != shape:
        raise SourceError(f"{where} is {_size(frame.image.shape)}, expected {_size(shape)} as the first frame")
    if frame.labels.shape != frame.image.shape[:2]:
        raise SourceError(f"labels of {where} are {_size(frame.labels.shape)}, expected {_size(shape)} as the image")
    found = int(frame.labels[frame.labels != UNLABELLED].max(initial=0))
    if found >= classes:
        raise SourceError(f"{where} has label {found}, expected 0..{classes - 1} or {UNLABELLED} for unlabelled")


def read_frames(settings: DataSettings, classes: int) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """Frames to train on, and those of the selection sequences, which are never among the first."""
    if settings.sequences.split in ("val", "test"):
        raise ConfigurationError(f"data.sequences.split is '{settings.sequences.split}', expected one to train on")
    street = settings.street
    frames, selection = render_streets(street, street.seeds), render_streets(street, street.selection_seeds)
    if settings.sequences.index:
        held_out = settings.sequences.selection
        read = read_labelled_frames(Path(settings.sequences.index), settings.sequences.split, classes)
        names = sorted({frame.sequence for frame in read})
        selection += [frame for frame in read if frame.sequence == held_out]
        frames += [frame for frame in read if frame.sequence != held_out]
        if held_out and held_out not in names:
            raise ConfigurationError(f"data.sequences.selection is '{held_out}', expected one of {names}, or ''")
    return frames, selection


def render_streets(settings: StreetSettings, seeds: Sequence[int]) -> list[LabelledFrame]:
    """Rendered frames: for each seed as many sequences as the settings want runs."""
    from tdnet_ros.training.street import Street

    frames = []
    for seed in seeds:
        street = Street(seed, settings.height, settings.width, settings.rate_hz)
        for run in range(settings.runs):
            first = run * (settings.frames + round(settings.run_gap_s * settings.rate_hz))
            for number in range(first, first + settings.frames):
                picture = street.render(number)
                sequence = f"{STREET}{seed}-{run}"
                stamp_s = picture.stamp_ns * 1e-9
                frames.append(LabelledFrame(picture.image, picture.labels, sequence, number, stamp_s))
    return frames


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
