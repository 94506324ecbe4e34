"""A bag written by a thread of its own, so that a slow disk never holds up whoever delivers the messages."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.bags import BagWriter


class BagQueue:
    """Takes messages at any time, writes them in order; beyond ``limit_bytes`` they are dropped and counted.

    ``open_writer`` is called in that thread, as SQLite asks of those who use it; what it raises is raised here.
    ``failure`` is the error that ended the writing, such as a full disk; messages after it are dropped.
    """

    def __init__(self, open_writer: Callable[[], BagWriter], limit_bytes: int) -> None:
        self.failure: TdnetRosError | None = None
        self.dropped: Counter[str] = Counter()
        self._open_writer = open_writer
        self._writer: BagWriter | None = None
        self._limit_bytes = limit_bytes
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._waiting_bytes = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._write_all, name="bag writer", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._writer or self.failure)
        if self.failure:
            raise self.failure

    @property
    def written(self) -> dict[str, int]:
        """Messages in the bag so far, by topic."""
        return dict(self._writer.counts) if self._writer else {}

    def put(self, topic: str, received_ns: int, cdr: bytes) -> None:
        """Queue one message; returns at once."""
        with self._changed:
            # A single message larger than the limit is still let through when nothing waits.
            full = self._waiting and self._waiting_bytes + len(cdr) > self._limit_bytes
            if full or self.failure or self._closed:
                self.dropped[topic] += 1
                return
            self._waiting.append((topic, received_ns, cdr))
            self._waiting_bytes += len(cdr)
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, then the bag's index; raises the error that ended the writing, if one did."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        if self.failure:
            raise self.failure

    def _write_all(self) -> None:
        try:
            with self._open_writer() as writer:
                with self._changed:
                    self._writer = writer
                    self._changed.notify()
                while message := self._next():
                    writer.write(*message)
        except TdnetRosError as error:
            with self._changed:
                self.failure = error
                self._changed.notify()
                self.dropped.update(topic for topic, _, _ in self._waiting)
                self._waiting.clear()

    def _next(self) -> tuple[str, int, bytes] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._waiting_bytes -= len(message[2])
            return message
