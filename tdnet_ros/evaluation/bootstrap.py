"""How sure an mIoU is: the percentile bootstrap over frames (Efron and Tibshirani, 1993, chapter 13), paired.

Frames are drawn with replacement, as many as there are, and the mIoU of the draw is that of the sum of their confusion
matrices. Two networks are compared on the same draws. Neighbouring frames of a video are nearly one picture, and an
interval over single frames takes them for independent ones: it is too narrow. Drawing whole blocks of consecutive
frames (moving blocks, Künsch, Annals of Statistics 1989) keeps that dependence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tdnet_ros.evaluation.metrics import ConfusionMatrix

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
_PERCENTILES = (2.5, 97.5)


def draw_frames(frames: int, resamples: int, seed: int, block: int = 1) -> Counts:
    """Indices of the frames of each resample: (resamples, frames), in runs of ``block`` consecutive frames.

    No run reaches beyond the clip; the last one of a resample is cut to the clip's length.
    """
    block = min(block, frames)
    blocks = -(-frames // block)
    starts = np.random.default_rng(seed).integers(0, frames - block + 1, (resamples, blocks))
    return (starts[..., None] + np.arange(block)).reshape(resamples, -1)[:, :frames].astype(np.int64)


def resampled_miou(confusion: Counts, draws: Counts) -> Values:
    """mIoU of each resample: (resamples,). ``confusion`` (F, C, C) is by frame, ``draws`` that of ``draw_frames``."""
    frames, classes, _ = confusion.shape
    times = np.stack([np.bincount(draw, minlength=frames) for draw in draws])  # how often each frame was drawn
    summed = np.tensordot(times, confusion, 1)
    values = np.empty(len(draws))
    for index, counts in enumerate(summed):
        matrix = ConfusionMatrix(classes)
        matrix.counts += counts
        values[index] = matrix.miou()
    return values


def interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of resampled values: their 2.5th and 97.5th percentile."""
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)
