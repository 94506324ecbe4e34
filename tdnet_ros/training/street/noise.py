"""Noise that looks like worn surfaces: several scales at once, stretched, tileable where it must repeat."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]


def cloud(
    rng: np.random.Generator, height: int, width: int, coarsest: float, octaves: int = 4, stretch: float = 1.0
) -> Grey:
    """Fractal noise (height, width), mean 0, deviation 1, up to ``coarsest`` px, ``stretch`` times wider."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        size = max(coarsest / 2**octave, 1.0)
        shape = (int(height / size) + 3, int(width / (size * stretch)) + 3)
        grid = rng.standard_normal(shape, np.float32)
        large = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(large, np.float32) * np.float32(0.62**octave)
    return np.asarray((total - total.mean()) / max(float(total.std()), 1e-6), np.float32)


def tileable(rng: np.random.Generator, size: int, slope: float) -> Grey:
    """Noise (size, size) without a seam, mean 0, deviation 1; amplitude falls as 1 / frequency**slope."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.hypot(down, across)
    frequency[0, 0] = 1.0
    spectrum /= frequency**slope
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, (size, size))
    return np.asarray(noise / noise.std(), np.float32)


def painted(base: Grey, factor: Grey) -> Picture:
    """Colours (h, w, 3) or (3,) in 0..255 times a grey factor (h, w), as uint8."""
    return np.asarray(np.clip(base * factor[..., None], 0, 255), np.uint8)
