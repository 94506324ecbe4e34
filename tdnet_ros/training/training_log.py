"""What a training says while it runs: a line a step to ``log.jsonl``, TensorBoard's files where it is installed."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tdnet_ros.errors import TrainingError


class TrainingLog:
    """``done`` counts the steps of all stages, ``total`` is how many there will be.

    Every method raises TrainingError when the disk does not take it.
    """

    def __init__(self, folder: Path, start: int, total: int, say: Callable[[str], None]) -> None:
        self.file = folder / "log.jsonl"
        self.start, self.total, self.say = start, total, say
        self.started_s = time.monotonic()
        self.board: Any = None
        with self._writing():
            self._forget_after(start)
            if importlib.util.find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def _forget_after(self, start: int) -> None:
        """What an interrupted training said after its last checkpoint will be said again."""
        said = self.file.read_text(encoding="utf-8") if self.file.is_file() else ""
        # Whole lines alone: the last one may have been cut.
        kept = [line for line in said.splitlines() if line.endswith("}") and json.loads(line)["done"] <= start]
        text = "".join(f"{line}\n" for line in kept)
        if text != said:
            partial = self.file.with_suffix(".partial")
            try:
                partial.write_text(text, encoding="utf-8")
                partial.replace(self.file)
            finally:
                partial.unlink(missing_ok=True)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(f"log '{self.file}' cannot be written, the last checkpoint stays: {error}") from error

    def write(self, done: int, stage: str, **values: float) -> None:
        """Log those values of a step of that stage, and say them with an estimate of the time that is left."""
        with self._writing():
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"done": done, "stage": stage, **values}) + "\n")
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(name, value, done)
        left_s = (time.monotonic() - self.started_s) / max(1, done - self.start) * (self.total - done)
        told = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        self.say(f"{stage}: step {done} of {self.total}, {told}, about {left_s:.0f} s left")

    def close(self) -> None:
        """Write what is still in memory."""
        if self.board is not None:
            with self._writing():
                self.board.close()
