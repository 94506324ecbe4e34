"""The newest frame wins, and frames that never arrived are noticed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tdnet_ros.node.intake import IN_ORDER_BYTES, IN_ORDER_MESSAGES, Arrival, Cadence, Sender, Waiting

PERIOD_NS = 33_333_333


def test_newest_arrival_wins_and_drops_are_counted() -> None:
    mailbox = Waiting().mailbox()
    for index in range(5):
        mailbox.put(Arrival(bytes([index]), 0.0))
    assert [arrival.message for arrival in mailbox.take()] == [b"\x04"]
    assert (mailbox.received, mailbox.dropped) == (5, 4)
    assert mailbox.take() == []


def test_where_every_message_has_to_be_decoded_all_are_kept_in_order() -> None:
    mailbox = Waiting().mailbox(in_order=True)
    for index in range(3):
        mailbox.put(Arrival(bytes([index]), 0.0))
    assert [arrival.message for arrival in mailbox.take()] == [b"\x00", b"\x01", b"\x02"]
    assert (mailbox.received, mailbox.dropped) == (3, 0)


@pytest.mark.parametrize(("messages", "size"), [(IN_ORDER_MESSAGES, 1), (4, IN_ORDER_BYTES // 4)])
def test_what_waits_in_order_is_bounded_and_its_loss_is_told(messages: int, size: int) -> None:
    mailbox, content = Waiting().mailbox(in_order=True), bytes(size)
    mailbox.put(Arrival(content, 0.0, reset_reason="clock jumped"))
    for _ in range(messages - 1):
        mailbox.put(Arrival(content, 0.0))
    assert mailbox.dropped == 0
    for _ in range(2):
        mailbox.put(Arrival(b"next", 0.0))
    assert (mailbox.received, mailbox.dropped) == (messages + 2, messages)
    first, second = mailbox.take()
    assert (first.after_gap, first.reset_reason) == (True, "clock jumped")
    assert (second.after_gap, second.reset_reason) == (False, None)
    mailbox.put(Arrival(content, 0.0))
    assert not mailbox.take()[0].after_gap, "taking empties it"


def test_reset_of_a_dropped_arrival_is_kept() -> None:
    mailbox = Waiting().mailbox()
    mailbox.put(Arrival(b"a", 0.0, reset_reason="clock jumped"))
    mailbox.put(Arrival(b"b", 0.0))
    assert [(taken.message, taken.reset_reason) for taken in mailbox.take()] == [(b"b", "clock jumped")]


def test_an_arrival_in_any_mailbox_wakes_the_worker() -> None:
    waiting = Waiting()
    mailboxes = [waiting.mailbox() for _ in range(3)]
    woken: list[bool] = []
    worker = threading.Thread(target=lambda: woken.append(waiting.wait()))
    worker.start()
    mailboxes[1].put(Arrival(b"a", 0.0))
    worker.join(5)
    assert woken == [True]
    assert [mailbox.is_empty for mailbox in mailboxes] == [True, False, True]


def test_closing_wakes_the_worker_and_counts_what_was_waiting() -> None:
    waiting = Waiting()
    mailbox = waiting.mailbox()
    woken: list[bool] = []
    worker = threading.Thread(target=lambda: woken.append(waiting.wait()))
    worker.start()
    waiting.close()
    worker.join(5)
    assert woken == [False]
    mailbox.put(Arrival(b"late", 0.0))
    assert not waiting.wait() and mailbox.take() == []


def observe(cadence: Cadence, stamps_ns: np.ndarray) -> int:
    return sum(cadence.observe(int(stamp), max_gap_s=2.0) for stamp in stamps_ns)


def test_holes_in_a_steady_rate_are_lost_frames() -> None:
    rng = np.random.default_rng(1)
    stamps = np.arange(300) * PERIOD_NS + rng.normal(0, 2e6, 300).astype(int)
    lost = [50, 51, 120, 200, 201, 202]
    assert observe(Cadence(), np.delete(stamps, lost)) == len(lost)


def test_no_loss_is_seen_in_a_steady_or_an_unsteady_stream() -> None:
    rng = np.random.default_rng(2)
    assert observe(Cadence(), np.arange(200) * PERIOD_NS) == 0
    assert observe(Cadence(), np.cumsum(rng.uniform(0.2, 3.0, 200) * PERIOD_NS)) == 0


def test_pause_longer_than_the_limit_is_no_loss() -> None:
    stamps = np.concatenate([np.arange(30), np.arange(30) + 1000]) * PERIOD_NS
    assert observe(Cadence(), stamps) == 0


def test_rate_is_that_of_the_sender() -> None:
    cadence = Cadence()
    observe(cadence, np.delete(np.arange(100), [40, 41]) * PERIOD_NS)
    assert abs(cadence.rate_hz - 30.0) < 0.1


def info(publisher: bytes, number: int | None) -> dict[str, object]:
    return {"publisher_gid": {"data": publisher}, "publication_sequence_number": number}


def test_sender_counts_holes_in_one_publishers_numbers() -> None:
    sender = Sender()
    assert [sender.observe(info(b"a", n)) for n in (4, 5, 8, 9)] == [0, 0, 2, 0]
    assert sender.observe(info(b"b", 1)) == 0, "another publisher counts from one"
    assert sender.identity == b"b".hex()


def test_sender_knows_nothing_of_middleware_that_tells_nothing() -> None:
    sender = Sender()
    assert [sender.observe({"publication_sequence_number": None}) for _ in range(3)] == [0, 0, 0]
    assert sender.identity == ""
