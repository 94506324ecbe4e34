"""The thread that decodes, segments and publishes: the newest frame of every camera that waits, as one step."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tdnet_ros.errors import StaleFrame
from tdnet_ros.node.camera import Camera, Picture
from tdnet_ros.node.intake import Waiting
from tdnet_ros.node.latency import Window
from tdnet_ros.streaming import Segmentation, Segmenter


class Worker:
    """Works from construction until ``stop``. No camera can starve: a round takes one frame of each that has one."""

    def __init__(self, segmenter: Segmenter, cameras: Sequence[Camera], waiting: Waiting) -> None:
        self._segmenter = segmenter
        self._cameras = cameras
        self._waiting = waiting
        #: Cameras whose last frame ended in an exception: until one goes well they take no others down with them.
        self._suspects: set[Camera] = set()
        self._batches = Window()
        self._thread = threading.Thread(target=self._work, name="segmentation")
        self._thread.start()

    @property
    def images_per_step(self) -> float:
        """How many images went through the network at once, in the mean over the last seconds; NaN without any."""
        recent = self._batches.recent()
        return float(recent.mean()) if len(recent) else math.nan

    def stop(self) -> None:
        """Finish the round and end; what waits is dropped."""
        self._waiting.close()
        self._thread.join()

    def _work(self) -> None:
        while self._waiting.wait():
            due = self._take()
            results = self._segment_together({camera: due[camera] for camera in due if camera not in self._suspects})
            for camera in due:
                if camera not in results:
                    self._suspects.add(camera)
                    with camera.attended():
                        results |= self._segment({camera: due[camera]})
                        self._suspects.remove(camera)
            self._publish(due, results)

    def _take(self) -> dict[Camera, Picture]:
        """The newest frame of every camera that has one."""
        due: dict[Camera, Picture] = {}
        for camera in self._cameras:
            with camera.attended():
                picture = camera.take()
                if picture is not None:
                    due[camera] = picture
        return due

    def _segment_together(self, due: Mapping[Camera, Picture]) -> dict[Camera, Segmentation | StaleFrame]:
        """Nothing, and every camera a suspect, after an exception: it does not tell whose frame it was."""
        if len(due) < 2:
            return {}
        self._align(due)
        try:
            return self._segment(due)
        except Exception as error:
            for camera in due:
                camera.stream.reset(f"{type(error).__name__} while several cameras were segmented together")
            self._suspects.update(due)
        # Not within the block: the exception's traceback holds the tensors that were there when it was raised.
        self._segmenter.runtime.release_unused()
        return {}

    def _align(self, due: Iterable[Camera]) -> None:
        """Let the cameras take the same sub-network, where they can.

        A camera that has lost an image would else be of another batch than the others for good.
        """
        turns = Counter(camera.stream.next_subnetwork for camera in due)
        common = turns.most_common(1)[0][0]
        for camera in due:
            if camera.stream.next_subnetwork != common:
                camera.stream.take_turn(common)

    def _segment(self, due: Mapping[Camera, Picture]) -> dict[Camera, Segmentation | StaleFrame]:
        confidence = any(camera.wants_confidence for camera in due)
        frames = [(camera.stream, picture.frame) for camera, picture in due.items()]
        results = self._segmenter.step_together(frames, confidence)
        segmented_s = time.perf_counter()
        for picture in due.values():
            picture.times.segmented_s = segmented_s
        # Images of one batch share their times.
        for size in Counter(id(result.times) for result in results if isinstance(result, Segmentation)).values():
            self._batches.add(size)
        return dict(zip(due, results, strict=True))

    def _publish(self, due: Mapping[Camera, Picture], results: Mapping[Camera, Segmentation | StaleFrame]) -> None:
        done: list[Camera] = []
        for camera, result in results.items():
            with camera.attended():
                if isinstance(result, StaleFrame):
                    raise result
                camera.publish(due[camera], result)
                done.append(camera)
        for camera in done:
            with camera.attended():
                camera.publish_extras(due[camera])
