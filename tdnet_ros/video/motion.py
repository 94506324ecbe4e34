"""Motion from each frame to its keyframe, from whatever source: chained over the frames between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.video.dense_flow import Measured
from tdnet_ros.video.frame import CELL_PX, Break, Frame, MotionField, grid_size

#: A frame with a larger share of unusable motion, measured from the pictures, is taken for the first of another scene:
#: see docs/motion.md for what drives and cuts between them have.
CUT_SHARE = 0.5
#: With so large a share of unusable vectors the pictures are asked as well. Cuts have 0.62 and more, but cameras' own
#: H.264 comes to 0.57 after a keyframe.
_SUSPICIOUS_SHARE = 0.5
# In the place of cv2.remap's second map, when the first holds both coordinates; its stubs ask for an array.
_ONE_MAP: Any = None


class MotionChain:
    """Adds up motion from frame to frame, back to a reference that stays: the keyframe, or the last frame handed on.

    D_t(x) = m_t(x) + D_{t-1}(x + m_t(x)), with D = 0 at the reference (BDNet, ICPR 2020, as reconstructed from CoViAR
    and TapLab): one bilinear look-up per frame at the field's own grid, and no frame of the past is kept.
    """

    def __init__(self) -> None:
        self._total: npt.NDArray[np.float32] | None = None  # (h, w, 3): dx, dy in px, 1 where valid
        self._cells = np.empty((0, 0, 2), np.float32)
        self._frames = 0
        self._broken: Break | None = None

    def restart(self) -> None:
        """The frame of the last call is the reference from now on."""
        self._total, self._frames, self._broken = None, 0, None

    def follow(self, step: MotionField) -> MotionField:
        """Motion from the next frame to the reference, given that to the frame before.

        Once broken it stays so, with the first reason, until ``restart``. Raises ImageError when the size changes.
        """
        self._broken = self._broken or step.broken
        rows, columns = step.valid.shape
        if self._broken is not None:
            return MotionField.without_path(rows * CELL_PX, columns * CELL_PX, self._broken)
        if self._total is None:
            if self._cells.shape[:2] != (rows, columns):
                self._allocate(rows, columns)
            total = self._buffers[0]
            total[..., :2] = step.displacement_px
            total[..., 2] = step.valid
        else:
            if self._total.shape[:2] != (rows, columns):
                raise ImageError(
                    f"motion field is {columns}x{rows} cells, expected {self._total.shape[1]}x{self._total.shape[0]} "
                    "as in the frame before"
                )
            total = self._buffers[1] if self._total is self._buffers[0] else self._buffers[0]
            cv2.scaleAdd(step.displacement_px, 1 / CELL_PX, self._cells, self._lookup)
            cv2.remap(self._total, self._lookup, _ONE_MAP, cv2.INTER_LINEAR, total, cv2.BORDER_REPLICATE)
            total[..., :2] += step.displacement_px
            total[..., 2] = (total[..., 2] >= 0.5) & step.valid
        # What is handed out belongs to its frame; the buffers are used again.
        displacement_px = total[..., :2].copy()
        total[..., 2] *= self._leads_inside(displacement_px)
        self._total = total
        self._frames += step.frames
        return MotionField(displacement_px, total[..., 2] > 0, self._frames)

    def _allocate(self, rows: int, columns: int) -> None:
        self._buffers = [np.empty((rows, columns, 3), np.float32) for _ in range(2)]
        self._cells = np.dstack(np.meshgrid(np.arange(columns), np.arange(rows))).astype(np.float32)
        self._lookup = np.empty_like(self._cells)

    def _leads_inside(self, displacement_px: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Whether the cells' places in the reference lie within it."""
        cv2.scaleAdd(displacement_px, 1 / CELL_PX, self._cells, self._lookup)
        rows, columns = displacement_px.shape[:2]
        x, y = self._lookup[..., 0], self._lookup[..., 1]
        inside = (x >= -0.5) & (y >= -0.5) & (x <= columns - 0.5) & (y <= rows - 0.5)
        return cast("npt.NDArray[np.bool_]", inside)


class SkippedMotion:
    """What a frame brings along when pictures before it were decoded but not handed on: motion over all of them."""

    def __init__(self) -> None:
        self._chain = MotionChain()
        self._last: MotionField | None = None
        self._has_unknown = False

    def follow(self, motion: MotionField | None) -> MotionField | None:
        """Motion from the next picture to the one handed on last; call it with that of every picture, as decoded.

        None when that of one of them is not known, unless the path is broken, which is worse.
        """
        self._has_unknown = self._has_unknown or motion is None
        if motion is not None and (not self._has_unknown or motion.broken is not None):
            self._last = self._chain.follow(motion)
        return None if self._has_unknown and (self._last is None or self._last.broken is None) else self._last

    def hand_on(self) -> None:
        """The picture of the last call was handed on."""
        self._chain.restart()
        self._last, self._has_unknown = None, False


def checked_cut_share(share: float) -> float:
    """The share; raises ConfigurationError outside 0..1."""
    if not 0 < share <= 1:
        raise ConfigurationError(f"cut_share is {share}, expected more than 0 and at most 1")
    return share


class MotionSource(ABC):
    """Motion of one camera's frames towards their keyframe.

    Call ``advance`` with every frame that is segmented, and ``make_keyframe`` after it when that frame becomes the
    keyframe. A frame without a path to the keyframe (``MotionField.broken``) has to become one: the first one, one
    after a loss or a cut, an I-frame; so it stays until one does.
    """

    def __init__(self, cut_share: float = CUT_SHARE) -> None:
        """``cut_share``: see CUT_SHARE; 1 finds no cuts. Raises ConfigurationError outside 0..1."""
        self._chain = MotionChain()
        self._cut_share = checked_cut_share(cut_share)

    @property
    def cut_share(self) -> float:
        """A frame with a larger share of unusable motion is the first of another scene; may be changed at any time."""
        return self._cut_share

    @cut_share.setter
    def cut_share(self, share: float) -> None:
        self._cut_share = checked_cut_share(share)

    @property
    def measured(self) -> Measured | None:
        """What the last ``step`` measured, None where it had no need; for others that want it, until the next one."""
        return None

    @abstractmethod
    def step(self, frame: Frame) -> MotionField:
        """Motion from this frame to the one of the call before; START on the first and when the size has changed."""

    @abstractmethod
    def forget(self) -> None:
        """Forget the frame of the call before: the next one is a first one."""

    @abstractmethod
    def see(self, frame: Frame) -> None:
        """Take note of a frame whose motion something else knows: it is the one before the next."""

    def advance(self, frame: Frame) -> MotionField:
        """Motion from this frame to the keyframe; its grid is that of ``frame``."""
        return self._chain.follow(self.step(frame))

    def make_keyframe(self) -> None:
        """The frame of the last ``advance`` is the keyframe from now on."""
        self._chain.restart()

    def reset(self) -> None:
        """Start afresh: another stream, or a jump of the clock."""
        self.forget()
        self._chain.restart()


class ZeroMotion(MotionSource):
    """The guess that nothing moves: for a camera that stands, and to compare with."""

    def __init__(self) -> None:
        super().__init__(cut_share=1.0)
        self._size: tuple[int, int] | None = None

    def step(self, frame: Frame) -> MotionField:
        size = (frame.height, frame.width)
        if size != self._size:
            self._size = size
            return MotionField.without_path(*size, Break.START)
        rows, columns = grid_size(*size)
        return MotionField(np.zeros((rows, columns, 2), np.float32), np.ones((rows, columns), np.bool_))

    def see(self, frame: Frame) -> None:
        self._size = (frame.height, frame.width)

    def forget(self) -> None:
        self._size = None


class CodecMotion(MotionSource):
    """The vectors that frames bring along from their bitstream; for frames that bring none, another source measures.

    That one also tells cuts, which an encoder may hide in an I-frame, and confirms those that the vectors look like.
    """

    def __init__(self, fallback: MotionSource) -> None:
        super().__init__(fallback.cut_share)
        self.fallback = fallback
        self._is_told = False
        self._size: tuple[int, int] | None = None

    @property
    def cut_share(self) -> float:
        """That of the source that measures."""
        return self.fallback.cut_share

    @cut_share.setter
    def cut_share(self, share: float) -> None:
        self.fallback.cut_share = share

    @property
    def measured(self) -> Measured | None:
        """Of frames without vectors: what is measured at an I-frame now and then continues nothing."""
        return None if self._is_told else self.fallback.measured

    def step(self, frame: Frame) -> MotionField:
        motion = frame.motion
        self._is_told = motion is not None
        size, last_size = (frame.height, frame.width), self._size
        self._size = size
        if motion is None:
            return self.fallback.step(frame)
        if motion.broken is None and size != last_size:
            motion = MotionField.without_path(*size, Break.START)
        if motion.broken is None and motion.unusable_share <= _SUSPICIOUS_SHARE:
            self.fallback.see(frame)
            return motion
        measured = self.fallback.step(frame)
        return measured if measured.broken is Break.CUT else motion

    def see(self, frame: Frame) -> None:
        self._size = (frame.height, frame.width)
        self.fallback.see(frame)

    def forget(self) -> None:
        self._size = None
        self.fallback.forget()
