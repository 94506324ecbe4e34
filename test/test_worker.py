"""The worker, with stand-ins for cameras and engine: what goes through the network together, and who pays for whom."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from tdnet_ros.errors import StaleFrame
from tdnet_ros.node.intake import Arrival, Mailbox, Waiting
from tdnet_ros.node.worker import Worker
from tdnet_ros.streaming import Plan, Segmentation, StageTimes

PATIENCE_S = 60.0


class StandIn:
    """A camera whose frame is its name and the message; notes what became of it."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name, self.mailbox = name, mailbox
        self.stream = SimpleNamespace()
        self.published: list[str] = []
        self.troubles: list[str] = []
        self.wants_confidence = False
        self.takes = 0

    def take(self) -> Any:
        arrivals = self.mailbox.take()
        self.takes += bool(arrivals)
        if not arrivals:
            return None
        return SimpleNamespace(frame=arrivals[-1].message.decode(), times=SimpleNamespace(), size=(360, 480))

    def publish(self, picture: Any, result: Segmentation) -> None:
        self.published.append(picture.frame)

    def publish_extras(self, picture: Any) -> None:
        assert picture.frame in self.published, "nothing comes before the mask"

    @contextlib.contextmanager
    def attended(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.troubles.append(f"{type(error).__name__} {error}")


class Scene:
    """Cameras, an engine that does as the test says, and a worker between them."""

    def __init__(self, names: str) -> None:
        self.waiting = Waiting()
        self.cameras = {name: StandIn(name, self.waiting.mailbox()) for name in names}
        self.steps: list[list[str]] = []
        self.answer: Callable[[str], Exception | None] = lambda frame: StaleFrame("old") if "stale" in frame else None
        self.may_go_on = threading.Semaphore(0)
        self._seen = threading.Condition()
        self.worker = Worker(self, list(self.cameras.values()), self.waiting)  # type: ignore[arg-type]

    def step_together(self, frames: Sequence[tuple[Any, str]], confidence: bool) -> list[Segmentation | Exception]:
        names = [frame for _, frame in frames]
        with self._seen:
            self.steps.append(names)
            self._seen.notify_all()
        assert self.may_go_on.acquire(timeout=PATIENCE_S)
        answers = [self.answer(name) for name in names]
        times = StageTimes(0.0, 0.0, 0.0, 0.0)
        done = Segmentation(None, None, Plan(0), True, 0, None, times)  # type: ignore[arg-type]
        return [answer or done for answer in answers]

    def send(self, *messages: str) -> None:
        """Messages begin with their camera's name."""
        for message in messages:
            self.cameras[message[0]].mailbox.put(Arrival(message.encode(), 0.0))

    def go(self, steps: int = 1) -> None:
        """Let so many steps of the engine go on."""
        for _ in range(steps):
            self.may_go_on.release()

    def wait_for_steps(self, count: int) -> None:
        """Until the engine was asked so often."""
        with self._seen:
            assert self._seen.wait_for(lambda: len(self.steps) >= count, PATIENCE_S), self.steps

    def end(self) -> None:
        """No more arrivals; what runs is finished."""
        self.go(100)
        self.worker.stop()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene("abc")
    yield made
    made.end()


def test_frames_that_wait_together_are_one_step(scene: Scene) -> None:
    scene.send("a1")
    scene.wait_for_steps(1)  # the worker is busy with it
    scene.send("a2", "b1", "b2", "c1")
    scene.go()
    scene.wait_for_steps(2)
    scene.end()
    assert scene.steps == [["a1"], ["a2", "b2", "c1"]]
    assert [camera.published for camera in scene.cameras.values()] == [["a1", "a2"], ["b2"], ["c1"]]
    assert scene.worker.images_per_step == 2.0


def test_what_no_camera_answers_for_ends_the_thread_and_is_kept(scene: Scene) -> None:
    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        yield
        raise RuntimeError("the device is gone")

    scene.cameras["a"].attended = broken  # type: ignore[method-assign]
    assert scene.worker.failure is None
    scene.send("a1")
    scene.worker._thread.join(PATIENCE_S)
    assert str(scene.worker.failure) == "the device is gone"


def test_no_camera_starves_beside_one_that_is_far_too_fast(scene: Scene) -> None:
    scene.send("a0")
    rounds = 20
    for index in range(1, rounds):
        scene.wait_for_steps(index)
        for burst in range(10):
            scene.send(f"a{index}.{burst}")
        scene.send(f"b{index}", f"c{index}")
        scene.go()
    scene.wait_for_steps(rounds)
    scene.end()
    assert [len(camera.published) for camera in scene.cameras.values()] == [rounds, rounds - 1, rounds - 1]


def test_an_exception_costs_the_other_cameras_nothing(scene: Scene) -> None:
    """And they need not wait for that camera's next frame, which may end the same way."""
    fails = {"b0", "b1", "b2"}
    scene.answer = lambda frame: MemoryError(frame) if frame in fails else None
    scene.go(100)
    for index in range(5):
        before = len(scene.steps)
        with scene.waiting._changed:  # all three arrive before the worker looks
            scene.send(f"a{index}", f"b{index}", f"c{index}")
        scene.wait_for_steps(before + (1 if index in (0, 4) else 2))
    scene.end()
    assert scene.steps == [
        ["a0", "b0", "c0"],
        *(["a1", "c1"], ["b1"]),
        *(["a2", "c2"], ["b2"]),
        *(["a3", "c3"], ["b3"]),
        ["a4", "b4", "c4"],
    ]
    a, b, c = scene.cameras.values()
    assert len(a.published) == len(c.published) == 5 and a.troubles == c.troubles == []
    assert b.published == ["b3", "b4"] and b.troubles == [f"MemoryError {frame}" for frame in sorted(fails)]


def test_an_exception_of_no_frame_ends_neither_the_worker_nor_other_frames(scene: Scene) -> None:
    def fail(frame: str) -> None:
        raise RuntimeError("of the engine")

    scene.answer = fail
    scene.go(100)
    for index, steps in enumerate((1, 3)):
        with scene.waiting._changed:
            scene.send(f"a{index}", f"b{index}")
        scene.wait_for_steps(steps)
        scene.answer = lambda frame: None
    scene.end()
    for camera in list(scene.cameras.values())[:2]:
        assert camera.troubles == ["RuntimeError of the engine"] and camera.published == [f"{camera.name}1"]


def test_exception_in_decoding_ends_neither_the_worker_nor_other_frames(scene: Scene) -> None:
    scene.go(100)
    scene.cameras["a"].take = lambda: [][0]  # type: ignore[method-assign]
    with scene.waiting._changed:
        scene.send("a1", "b1")
    scene.wait_for_steps(1)
    del scene.cameras["a"].take
    scene.send("a2")
    scene.wait_for_steps(2)
    scene.end()
    assert scene.cameras["a"].published == ["a2"] and scene.cameras["b"].published == ["b1"]
    assert scene.cameras["a"].troubles[0].startswith("IndexError")


def test_a_stale_frame_is_its_own_cameras_trouble(scene: Scene) -> None:
    scene.go(100)
    with scene.waiting._changed:
        scene.send("a1 stale", "b1")
    scene.wait_for_steps(1)
    scene.end()
    a, b, _ = scene.cameras.values()
    assert (a.published, a.troubles) == ([], ["StaleFrame old"])
    assert (b.published, b.troubles) == (["b1"], [])


def gathered(waiting: Waiting, arrivals: Sequence[Arrival], mailboxes: Sequence[Mailbox]) -> list[bool]:
    """Which mailboxes hold something when the worker wakes, the arrivals coming 20 ms after one another."""

    def send() -> None:
        for mailbox, arrival in zip(mailboxes, arrivals, strict=False):
            mailbox.put(arrival)
            threading.Event().wait(0.02)

    sender = threading.Thread(target=send)
    sender.start()
    waiting.wait()
    held = [not mailbox.is_empty for mailbox in mailboxes]
    sender.join()
    for mailbox in mailboxes:
        mailbox.take()
    return held


def test_cameras_that_came_together_are_waited_for_and_no_others() -> None:
    waiting = Waiting(gather_s=30.0)
    together, other = [waiting.mailbox() for _ in range(2)], waiting.mailbox()
    for mailbox, stamp_ns in zip((*together, other), (10**9, 10**9 + 10**6, 10**12), strict=True):
        mailbox.put(Arrival(b"", 0.0, stamp_ns=stamp_ns))
        mailbox.take()
    second = [Arrival(b"", 0.0, stamp_ns=stamp_ns) for stamp_ns in (2 * 10**9, 2 * 10**9 + 10**6)]
    assert gathered(waiting, second, (*together, other)) == [True, True, False]
    waiting.close()
