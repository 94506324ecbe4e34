"""What an alternating stream did with a frame, drawn into its overlay: keyframe, motion and resolution."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.streaming import Plan, Segmentation
from tdnet_ros.video.frame import CELL_PX, MotionField

RgbPicture = npt.NDArray[np.uint8]

_KEYFRAME, _KNOWN, _GUESSED, _FRAME = (255, 210, 0), (255, 255, 255), (255, 60, 60), (235, 235, 235)
#: Arrows in a row, and side of the resolution's inset, as parts of the picture's width.
_ARROWS, _INSET = 40, 5


def describe_plan(plan: Plan) -> str:
    """The plan in a line: ``keyframe (I-frame)``, or how far from the last one and at which scale."""
    if plan.keyframe:
        return f"keyframe ({plan.reason})"
    if plan.keyframe_distance:
        return f"{plan.keyframe_distance} from keyframe, scale {plan.scale:g}"
    return plan.reason


def draw_motion(picture: RgbPicture, image: RgbPicture, result: Segmentation) -> RgbPicture:
    """A copy of the overlay (H, W, 3) with what there is to see of the frame's plan.

    A keyframe has a border. On a frame between keyframes, lines lead from dots to where these places were in the
    keyframe; red ones are guesses. In the upper right corner ``image`` (H, W, 3) stands as the network saw it: it fills
    its frame at full resolution, and half of its sides at scale 0.5.
    """
    drawn: RgbPicture = picture.copy()
    if result.plan.keyframe:
        thickness = max(4, picture.shape[1] // 120)
        cv2.rectangle(drawn, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), _KEYFRAME, thickness)
    elif result.motion is not None:
        _draw_field(drawn, result.motion)
    _draw_inset(drawn, image, result.plan)
    return drawn


def _draw_field(picture: RgbPicture, motion: MotionField) -> None:
    step = max(1, round(picture.shape[1] / _ARROWS / CELL_PX))
    rows, columns = motion.valid.shape
    for row in range(step // 2, rows, step):
        for column in range(step // 2, columns, step):
            x, y = CELL_PX * column + CELL_PX // 2, CELL_PX * row + CELL_PX // 2
            dx, dy = motion.displacement_px[row, column]
            colour = _KNOWN if motion.valid[row, column] else _GUESSED
            cv2.circle(picture, (x, y), 1, colour, cv2.FILLED)
            cv2.line(picture, (x, y), (round(x + float(dx)), round(y + float(dy))), colour, 1, cv2.LINE_AA)


def _draw_inset(picture: RgbPicture, image: RgbPicture, plan: Plan) -> None:
    height, width = (side // _INSET for side in picture.shape[:2])
    left, top = picture.shape[1] - width - 8, 8
    seen = max(1, round(width * plan.scale)), max(1, round(height * plan.scale))
    picture[top : top + height, left : left + width] //= 4
    picture[top : top + seen[1], left : left + seen[0]] = cv2.resize(image, seen, interpolation=cv2.INTER_AREA)
    cv2.rectangle(picture, (left - 1, top - 1), (left + width, top + height), _FRAME, 1)
