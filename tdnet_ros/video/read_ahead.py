"""Work done ahead of its consumer, in a thread: images are decoded while the one before is being used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

#: How long the thread waits for room before it looks whether anybody still wants its items.
_POLL_S = 0.1
_END = object()


def read_ahead(items: Iterable[Item], depth: int = 4) -> Generator[Item, None, None]:
    """The same items in the same order, up to ``depth`` of them produced in advance by a thread.

    An exception of ``items`` is raised after the items before it. Closing the iterator ends the thread.
    """
    buffer: queue.Queue[object] = queue.Queue(depth)
    abandoned = threading.Event()

    def put(item: object) -> None:
        while not abandoned.is_set():
            try:
                buffer.put(item, timeout=_POLL_S)
                return
            except queue.Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                put(item)
                if abandoned.is_set():
                    return
            put(_END)
        except Exception as error:  # belongs to the consumer's thread, whatever it is
            put(_Failure(error))

    thread = threading.Thread(target=fill, name="read ahead", daemon=True)
    thread.start()
    try:
        while (item := buffer.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        abandoned.set()
        thread.join()


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error
