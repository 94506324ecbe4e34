"""Masks that a measure of stability must not be fooled by: one that says nothing, and one that never changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import UNLABELLED

Ids = npt.NDArray[np.uint8]
Control = Callable[[Ids], Ids]


class ConstantMask:
    """Every pixel is the class that was most frequent in the first mask that has one."""

    def __init__(self) -> None:
        self._class: int | None = None

    def __call__(self, mask: Ids) -> Ids:
        """The network's mask (H, W) -> the control's in its place."""
        if self._class is None:
            counts = np.bincount(mask.ravel(), minlength=256)[:UNLABELLED]
            self._class = int(counts.argmax()) if counts.any() else None
        return np.full_like(mask, UNLABELLED if self._class is None else self._class)


class FrozenMask:
    """The first mask for ever; a mask of another size replaces it."""

    def __init__(self) -> None:
        self._mask: Ids | None = None

    def __call__(self, mask: Ids) -> Ids:
        """The network's mask (H, W) -> the control's in its place."""
        if self._mask is None or self._mask.shape != mask.shape:
            self._mask = mask.copy()
        return self._mask
