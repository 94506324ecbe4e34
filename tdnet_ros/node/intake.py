"""Between the executor's thread, which receives, and the worker's, which segments: the newest frame wins."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

#: So much may wait where every message has to be decoded: at 30 Hz the worker may be busy for four seconds.
IN_ORDER_MESSAGES = 120
IN_ORDER_BYTES = 64 << 20
#: Images of several cameras whose stamps are no further apart were taken together.
TOGETHER_NS = 5_000_000


@dataclass(frozen=True)
class Arrival:
    """One serialised message on its way to the worker.

    ``arrived_s`` is the steady time at which it reached the node, ``sender`` identifies the publisher as far as the
    middleware tells, ``reset_reason`` says why the window has to be emptied before this message, if it has to.
    ``after_gap``: messages before it never came or were thrown away. ``stamp_ns`` is None where it is not set.
    """

    message: bytes
    arrived_s: float
    sender: str = ""
    reset_reason: str | None = None
    after_gap: bool = False
    stamp_ns: int | None = None


class Mailbox:
    """Holds what arrived from one camera until the worker takes it, and wakes the worker (``Waiting``).

    Where the newest image wins it holds one: putting a second one drops the first, and counts it; a reset that it
    carried is kept. ``in_order`` keeps all, in order, for messages of which every one has to be decoded. When there are
    more than IN_ORDER_MESSAGES or IN_ORDER_BYTES all that wait are dropped, as what follows a hole cannot be decoded
    anyway before the next keyframe, and would be old; the arrival after them is marked ``after_gap``.
    """

    def __init__(self, changed: threading.Condition, in_order: bool = False) -> None:
        self._changed = changed
        self._in_order = in_order
        self._waiting: list[Arrival] = []
        self._bytes = 0
        self._closed = False
        self.received = 0
        self.dropped = 0
        #: Stamps of the last arrival and the one before it.
        self.stamps_ns: tuple[int | None, int | None] = None, None

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
            self.stamps_ns = arrival.stamp_ns, self.stamps_ns[0]
            if self._waiting and (not self._in_order or self._is_full(arrival)):
                reasons = [before.reset_reason for before in self._waiting if before.reset_reason is not None]
                reason = arrival.reset_reason or (reasons[-1] if reasons else None)
                arrival = replace(arrival, reset_reason=reason, after_gap=True)
                self.dropped += len(self._waiting)
                self._waiting, self._bytes = [], 0
            self._waiting.append(arrival)
            self._bytes += len(arrival.message)
            self._changed.notify_all()

    def take(self) -> list[Arrival]:
        """All that waits, oldest first; does not wait for more."""
        with self._changed:
            arrivals, self._waiting, self._bytes = self._waiting, [], 0
            return arrivals

    def close(self) -> None:
        """Take nothing more; what waits counts as dropped."""
        with self._changed:
            self.dropped += len(self._waiting)
            self._waiting = []
            self._closed = True

    def _is_full(self, arrival: Arrival) -> bool:
        return len(self._waiting) >= IN_ORDER_MESSAGES or self._bytes + len(arrival.message) > IN_ORDER_BYTES


class Waiting:
    """Where the worker waits for any of several cameras' mailboxes.

    ``gather_s``: for so long it then waits for cameras that are triggered together with one that has something: their
    images before had stamps within TOGETHER_NS. So they become one batch, and nothing waits for other cameras.
    """

    def __init__(self, gather_s: float = 0.0) -> None:
        self.gather_s = gather_s
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
            if not self._closed and self.gather_s > 0:
                self._gather()
            return not self._closed

    def _gather(self) -> None:
        """Wait until the cameras that belong together are there, or the time for that is over."""
        until_s = time.perf_counter() + self.gather_s
        while self._expected() and not self._closed:
            remaining_s = until_s - time.perf_counter()
            if remaining_s <= 0 or not self._changed.wait(remaining_s):
                return

    def _expected(self) -> bool:
        here_ns = [mailbox.stamps_ns[1] for mailbox in self._mailboxes if not mailbox.is_empty]
        missing_ns = [mailbox.stamps_ns[0] for mailbox in self._mailboxes if mailbox.is_empty]
        return any(
            abs(one_ns - other_ns) <= TOGETHER_NS
            for one_ns in here_ns
            for other_ns in missing_ns
            if one_ns is not None and other_ns is not None
        )

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

    @property
    def is_counted(self) -> bool:
        """Whether the middleware numbers the messages, so that one without a hole was delivered."""
        return self._number is not None

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
