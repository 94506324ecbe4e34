"""Between the executor's thread, which receives, and the worker's, which segments: the newest frame wins."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """One serialised message on its way to the worker.

    ``arrived_s`` is the steady time at which it reached the node, ``sender`` identifies the publisher as far as the
    middleware tells, ``reset_reason`` says why the window has to be emptied before this message, if it has to.
    """

    message: bytes
    arrived_s: float
    sender: str = ""
    reset_reason: str | None = None


class Mailbox:
    """Holds what arrived from one camera until the worker takes it, and wakes the worker (``Waiting``).

    Where the newest image wins it holds one: putting a second one drops the first, and counts it; a reset that it
    carried is kept. ``in_order`` keeps all, in order, for messages of which every one has to be decoded.
    """

    def __init__(self, changed: threading.Condition, in_order: bool = False) -> None:
        self._changed = changed
        self._in_order = in_order
        self._waiting: list[Arrival] = []
        self._closed = False
        self.received = 0
        self.dropped = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def put(self, arrival: Arrival) -> None:
        """Called for every message that arrives."""
        with self._changed:
            if self._closed:
                return
            self.received += 1
            if self._waiting and not self._in_order:
                before = self._waiting.pop()
                self.dropped += 1
                if arrival.reset_reason is None:
                    arrival = replace(arrival, reset_reason=before.reset_reason)
            self._waiting.append(arrival)
            self._changed.notify_all()

    def take(self) -> list[Arrival]:
        """All that waits, oldest first; does not wait for more."""
        with self._changed:
            arrivals, self._waiting = self._waiting, []
            return arrivals

    def close(self) -> None:
        """Take nothing more; what waits counts as dropped."""
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting = []
            self._closed = True


class Waiting:
    """Where the worker waits for any of several cameras' mailboxes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._mailboxes: list[Mailbox] = []
        self._closed = False

    def mailbox(self, in_order: bool = False) -> Mailbox:
        """A new mailbox to wait for as well."""
        mailbox = Mailbox(self._changed, in_order)
        self._mailboxes.append(mailbox)
        return mailbox

    def wait(self) -> bool:
        """Wait until something lies in one of the mailboxes; False once closed."""
        with self._changed:
            while not self._closed and all(mailbox.is_empty for mailbox in self._mailboxes):
                self._changed.wait()
            return not self._closed

    def close(self) -> None:
        """Close all mailboxes and let ``wait`` return False from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for mailbox in self._mailboxes:
            mailbox.close()


class Sender:
    """Follows one publisher through what the middleware says of each message (rclpy's MessageInfo).

    Fast DDS numbers a publisher's messages and names the publisher, so a hole in the numbers is a message that was
    published and did not arrive. Middleware that tells neither gives an empty identity and no holes.
    """

    def __init__(self) -> None:
        self.identity = ""
        self._number: int | None = None

    def observe(self, info: Mapping[str, Any]) -> int:
        """The number of messages that this publisher sent between the last one and this one."""
        gid = info.get("publisher_gid")
        identity = bytes(gid["data"]).hex() if gid else ""
        number = info.get("publication_sequence_number")
        before, same = self._number, identity == self.identity
        self.identity, self._number = identity, number
        if not same or before is None or number is None:
            return 0
        return max(0, number - before - 1)


class Cadence:
    """Finds frames that never arrived, by gaps in the stamps of a camera with a steady rate.

    The rate counts as steady when three quarters of the last periods lie within a fifth of their median; a gap of
    close to a whole number of periods then is frames lost before they reached us.
    """

    _MEMORY = 30
    _ENOUGH = 8

    def __init__(self) -> None:
        self._periods: deque[int] = deque(maxlen=self._MEMORY)
        self._last_ns: int | None = None

    def restart(self) -> None:
        """Forget the rate."""
        self._periods.clear()
        self._last_ns = None

    @property
    def rate_hz(self) -> float:
        """Rate of the sender by its stamps, NaN as long as it is not known."""
        return 1e9 / median(self._periods) if self._periods else float("nan")

    def observe(self, stamp_ns: int, max_gap_s: float) -> int:
        """The number of frames that are missing between the last stamp and this one."""
        last_ns, self._last_ns = self._last_ns, stamp_ns
        if last_ns is None:
            return 0
        period_ns = stamp_ns - last_ns
        if period_ns <= 0 or period_ns > max_gap_s * 1e9:
            self.restart()
            self._last_ns = stamp_ns
            return 0
        missing = self._missing(period_ns)
        self._periods.append(round(period_ns / (missing + 1)))
        return missing

    def _missing(self, period_ns: int) -> int:
        if len(self._periods) < self._ENOUGH:
            return 0
        # No numpy here: for so few numbers it takes ten times as long, and every frame waits for this.
        ordered = sorted(self._periods)
        usual_ns = median(ordered)
        steady = bisect_left(ordered, 1.2 * usual_ns) - bisect_right(ordered, 0.8 * usual_ns)
        if steady < 0.75 * len(ordered):
            return 0
        frames = round(period_ns / usual_ns)
        return frames - 1 if frames > 1 and abs(period_ns / usual_ns - frames) < 0.35 else 0
