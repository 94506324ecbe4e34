"""What a training says while it runs: a line a step to ``log.jsonl``, TensorBoard's files where it is installed."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class TrainingLog:
    """``done`` counts the steps of all stages, ``total`` is how many there will be."""

    def __init__(self, folder: Path, start: int, total: int, say: Callable[[str], None]) -> None:
        self.file = folder / "log.jsonl"
        self.start, self.total, self.say = start, total, say
        self.started_s = time.monotonic()
        # What an interrupted training said after its last checkpoint will be said again.
        kept = [line for line in _lines(self.file) if json.loads(line)["done"] <= start]
        self.file.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self.board: Any = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, done: int, stage: str, **values: float) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"done": done, "stage": stage, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, done)
        left_s = (time.monotonic() - self.started_s) / max(1, done - self.start) * (self.total - done)
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.say(f"{stage}: step {done} of {self.total}, {told}, about {left_s:.0f} s left")

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _lines(file: Path) -> list[str]:
    """Whole lines alone: the last one may have been cut."""
    if not file.is_file():
        return []
    return [line for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
