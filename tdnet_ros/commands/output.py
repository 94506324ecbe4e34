"""What commands say while they work."""

from __future__ import annotations

import time


def say(line: str) -> None:
    """A line at once, also where the output is no terminal."""
    print(line, flush=True)


class Progress:
    """A line every two seconds, with an estimate where the number of frames is known."""

    def __init__(self) -> None:
        self._started_s: float | None = None

    def __call__(self, done: int, total: int | None) -> None:
        now_s = time.perf_counter()
        if self._started_s is None:  # what came before the first frame says nothing of the others
            self._started_s = self._said_s = now_s
        if now_s - self._said_s < 2.0:
            return
        self._said_s = now_s
        text = f"{done} frames"
        if total:
            left_s = (now_s - self._started_s) / done * (total - done)
            text = f"{done} of {total} frames, about {left_s:.0f} s left"
        say(text)
