"""The ways of running a step: all answer alike, each is made ready once, and none where it cannot run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np
import pytest
import torch
from tiny_network import TinyUnitedVariant, TinyVariant, tiny_weights
from torch import Tensor

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.streaming import SegmentationStream, Segmenter, StreamSettings
from tdnet_ros.streaming.engines import ENGINES, Engine, PreparedStep, choose_engine
from tdnet_ros.streaming.engines.cuda_graph import StaticBuffers
from tdnet_ros.video.frame import Frame

CPU = torch.device("cpu")
SIZE = (64, 96)
# Compiled code and a GPU round otherwise: a border may move by a pixel. An engine that reads another stream's window
# is far below this (see test_the_pictures_tell_streams_apart).
#: The pictures here have little in common: each would be a cut.
NO_CUTS = StreamSettings(cut_threshold=1.0)
AGREEMENT = {"eager": 1.0, "replayed": 1.0, "compile": 0.99, "cudagraph": 0.97}


def record(inputs: Sequence[Tensor], function: PreparedStep) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
    """As a captured graph works, on a CPU: each replay reads the same memory and writes to the same memory."""
    outputs = function(*inputs)

    def replay() -> None:
        for output, new in zip(outputs, function(*inputs), strict=True):
            output.copy_(new)

    return outputs, replay


class ReplayedEngine(Engine):
    """The CUDA engine's buffers around a network on a CPU."""

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        super().__init__(network, device)  # type: ignore[arg-type]
        self.buffers = StaticBuffers(record)

    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        return self.buffers.step(partial(self.network.compute, plan), (image, *cached))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Steps of a millisecond are not worth waking other threads for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks(one_thread: None) -> Iterator[dict[str, dict[str, Tensor]]]:
    """Weights of the two tiny networks, which stand in the catalog meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENGINES, "replayed", ReplayedEngine)
        for paths in (2, 4):
            patch.setitem(CATALOG, f"tiny{paths}", TinyVariant(subnetworks=paths))
        yield {name: tiny_weights(name) for name in ("tiny2", "tiny4")}


@pytest.fixture(scope="module")
def make_segmenter(networks: dict[str, dict[str, Tensor]]) -> Callable[..., Segmenter]:
    """Segmenters by runtime and model; one of each, so that steps are prepared once for the whole file."""
    made: dict[tuple[str, str], Segmenter] = {}

    def make(runtime: str, model: str = "tiny2") -> Segmenter:
        if runtime == "cudagraph" and not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        if (runtime, model) not in made:
            device = "cuda" if runtime == "cudagraph" else "cpu"
            made[runtime, model] = Segmenter(model, networks[model], device, "fp32", runtime=runtime, settings=NO_CUTS)
        return made[runtime, model]

    return make


def frame(index: int, size: tuple[int, int] = SIZE) -> Frame:
    noise = np.random.default_rng(index).integers(0, 256, (4, 6, 3), np.uint8)
    image = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return Frame(image, stamp_ns=1_000_000_000 + index * 50_000_000)


def run(stream: SegmentationStream, indices: range) -> list[np.ndarray]:
    return [stream.step(frame(index)).mask for index in indices]


def agreement(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    return min(float(np.mean(x == y)) for x, y in zip(a, b, strict=True))


def test_the_pictures_tell_streams_apart(make_segmenter: Callable[..., Segmenter]) -> None:
    """Otherwise the tests below could not fail: masks have several classes and depend on the window."""
    for model in ("tiny2", "tiny4"):
        segmenter = make_segmenter("eager", model)
        first, second = segmenter.stream(), segmenter.stream()
        run(first, range(4))
        run(second, range(10, 14))
        masks = [stream.step(frame(20)).mask for stream in (first, second)]
        assert len(np.unique(masks[0])) >= 3
        assert agreement(masks[:1], masks[1:]) < 0.95


# Compiling seven steps takes a minute, three have to do.
@pytest.mark.parametrize(
    ("runtime", "model"),
    [
        ("replayed", "tiny2"),
        ("replayed", "tiny4"),
        ("compile", "tiny2"),
        ("cudagraph", "tiny2"),
        ("cudagraph", "tiny4"),
    ],
)
def test_every_engine_answers_as_eager_does(make_segmenter: Callable[..., Segmenter], runtime: str, model: str) -> None:
    expected = run(make_segmenter("eager", model).stream(), range(10))
    assert agreement(run(make_segmenter(runtime, model).stream(), range(10)), expected) >= AGREEMENT[runtime]


@pytest.mark.parametrize("runtime", ["eager", "replayed", "compile", "cudagraph"])
def test_interleaved_streams_share_prepared_steps_and_nothing_else(
    make_segmenter: Callable[..., Segmenter], runtime: str
) -> None:
    segmenter = make_segmenter(runtime)
    separate = run(segmenter.stream(), range(6)), run(segmenter.stream(), range(10, 16))
    first, second = segmenter.stream(), segmenter.stream()
    for step in range(6):
        for stream, masks, index in ((first, separate[0], step), (second, separate[1], step + 10)):
            assert np.array_equal(stream.step(frame(index)).mask, masks[step])


@pytest.mark.parametrize("runtime", ["eager", "replayed", "cudagraph"])
def test_what_a_step_returned_is_not_changed_by_later_ones(
    make_segmenter: Callable[..., Segmenter], runtime: str
) -> None:
    segmenter = make_segmenter(runtime, "tiny4")
    stream = segmenter.stream()
    run(stream, range(5))
    held = [tensor for slot in stream.state.slots for tensor in (slot.query, slot.key, slot.value)]
    before = [tensor.clone() for tensor in held]
    run(segmenter.stream(), range(20, 29))
    assert all(torch.equal(a, b) for a, b in zip(held, before, strict=True))


@pytest.mark.parametrize("model", ["tiny2", "tiny4"])
@pytest.mark.parametrize("runtime", ["replayed", "cudagraph"])
def test_after_the_warm_up_nothing_is_left_to_prepare(
    networks: dict[str, dict[str, Tensor]], runtime: str, model: str
) -> None:
    if runtime == "cudagraph" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    device = "cuda" if runtime == "cudagraph" else "cpu"
    segmenter = Segmenter(model, networks[model], device, "fp32", runtime=runtime, settings=NO_CUTS)
    segmenter.warm_up(*SIZE)
    count = segmenter.network.info.subnetworks
    prepared = segmenter.engine.prepared
    assert len(set(prepared)) == len(prepared) == 2 * count - 1
    stream = segmenter.stream()
    rng = np.random.default_rng(1)
    for index in range(60):
        if rng.random() < 0.25:
            stream.reset("a test")
        stream.step(frame(index))
    assert sorted(segmenter.engine.prepared) == sorted(prepared)


def test_a_compiled_step_is_compiled_once(make_segmenter: Callable[..., Segmenter]) -> None:
    """Also for a thread other than the one that warmed it up, as in the node, and for entries of any step."""
    segmenter = make_segmenter("compile")
    segmenter.warm_up(*SIZE)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with torch._dynamo.config.patch(error_on_recompile=True):
                stream = segmenter.stream()
                run(stream, range(5))
                stream.reset()
                run(stream, range(5, 9))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors, errors
    assert len(segmenter.engine.prepared) == 3


def test_a_camera_that_changes_its_size_all_the_time_does_not_fill_the_memory(
    make_segmenter: Callable[..., Segmenter],
) -> None:
    segmenter = make_segmenter("eager")
    stream = segmenter.stream()
    for index in range(120):
        stream.step(frame(index, (64, 96 + index)))
    assert len(segmenter.engine.prepared) < 100


def test_threads_share_an_engine(make_segmenter: Callable[..., Segmenter]) -> None:
    segmenter = make_segmenter("replayed")
    ranges = [range(start, start + 12) for start in (0, 30, 60)]
    expected = [run(segmenter.stream(), indices) for indices in ranges]
    results: dict[int, list[np.ndarray]] = {}

    def work(number: int) -> None:
        results[number] = run(segmenter.stream(), ranges[number])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, masks in enumerate(expected):
        assert all(np.array_equal(a, b) for a, b in zip(results[number], masks, strict=True))


def test_the_engine_in_use_is_told(make_segmenter: Callable[..., Segmenter]) -> None:
    segmenter = make_segmenter("replayed")
    assert segmenter.runtime.engine == "replayed"
    assert segmenter.runtime.describe().endswith("fp32, replayed")


def test_auto_is_a_choice_by_device() -> None:
    assert choose_engine("auto", CPU) in ENGINES
    assert choose_engine("auto", torch.device("cuda")) == "cudagraph"


def test_engines_refuse_what_they_cannot_run_on(
    networks: dict[str, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = networks["tiny2"]
    with pytest.raises(ConfigurationError, match="runtime is 'warp', expected one of"):
        Segmenter("tiny2", weights, "cpu", runtime="warp")
    with pytest.raises(ConfigurationError, match="runtime is 'cudagraph' on cpu, expected a CUDA device"):
        Segmenter("tiny2", weights, "cpu", runtime="cudagraph")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigurationError, match=r"runtime is 'compile' on cpu and there is no C\+\+ compiler"):
        Segmenter("tiny2", weights, "cpu", runtime="compile")


def test_a_step_that_does_not_compile_names_itself_and_a_full_device_is_no_such_step(
    networks: dict[str, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = Segmenter("tiny2", networks["tiny2"], "cpu", runtime="compile")

    def compute(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError("no such operation")

    monkeypatch.setattr(segmenter.network, "compute", compute)
    with pytest.raises(ConfigurationError, match="the step of sub-network 0 cannot be compiled"):
        segmenter.stream().step(frame(0))

    def fill_the_device(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "compile", lambda step, **_: step)  # it fails where it runs, not where it is compiled
    monkeypatch.setattr(segmenter.network, "compute", fill_the_device)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        segmenter.stream().step(frame(0))


def test_frames_between_keyframes_run_on_static_buffers_too(
    networks: dict[str, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, "united2", TinyUnitedVariant(subnetworks=2))
    weights, settings = tiny_weights("united2"), StreamSettings(keyframe_interval=3, motion="flow")
    eager, replayed = (
        Segmenter("united2", weights, "cpu", runtime=runtime, settings=settings) for runtime in ("eager", "replayed")
    )
    replayed.warm_up(*SIZE)
    ready, streams, clip = set(replayed.engine.prepared), (eager.stream(), replayed.stream()), DriveClip(*SIZE, seed=1)
    for index in range(7):
        expected, found = (stream.step(Frame(clip.picture(index), stamp_ns=index + 1)) for stream in streams)
        assert found.plan == expected.plan and found.plan.keyframe == (index % 3 == 0)
        assert np.array_equal(found.mask, expected.mask)
    assert set(replayed.engine.prepared) == ready
