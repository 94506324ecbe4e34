"""The thread that decodes, segments and publishes: the newest frame of every camera that waits, as one step."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from tdnet_ros.errors import StaleFrame
from tdnet_ros.node.camera import Camera, Picture
from tdnet_ros.node.heap import Settling, give_back_unused
from tdnet_ros.node.intake import Waiting
from tdnet_ros.node.latency import Window
from tdnet_ros.streaming import Segmentation, Segmenter


class Worker:
    """Works from construction until ``stop``. No camera can starve: a round takes one frame of each that has one."""

    def __init__(self, segmenter: Segmenter, cameras: Sequence[Camera], waiting: Waiting) -> None:
        self._segmenter = segmenter
        self._cameras = cameras
        self._waiting = waiting
        #: Cameras whose last frame ended in an exception: until one goes well they keep no others waiting for a second
        #: attempt.
        self._suspects: set[Camera] = set()
        self._batches = Window()
        self._sizes = Settling()
        #: What ended the thread before its time.
        self.failure: Exception | None = None
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
        try:
            self._serve()
        except Exception as error:  # what a frame does is attended to; this is a fault of the node, or of its device
            self.failure = error

    def _serve(self) -> None:
        while self._waiting.wait():
            due = self._take()
            trusted = {camera: picture for camera, picture in due.items() if camera not in self._suspects}
            alone = [{camera: picture} for camera, picture in due.items() if camera not in trusted]
            for group in [trusted, *alone] if trusted else alone:
                self._publish(group, self._segment(group))
            if self._sizes.observe({camera: picture.size for camera, picture in due.items()}):
                give_back_unused()

    def _take(self) -> dict[Camera, Picture]:
        """The newest frame of every camera that has one."""
        due: dict[Camera, Picture] = {}
        for camera in self._cameras:
            with camera.attended():
                picture = camera.take()
                if picture is not None:
                    due[camera] = picture
        return due

    def _segment(self, due: Mapping[Camera, Picture]) -> dict[Camera, Segmentation | Exception]:
        confidence = any(camera.wants_confidence for camera in due)
        frames = [(camera.stream, picture.frame) for camera, picture in due.items()]
        try:
            results = self._segmenter.step_together(frames, confidence)
        except Exception as error:  # of no frame's own: it costs every camera its frame, and not the worker
            results = [error] * len(frames)
        segmented_s = time.perf_counter()
        for picture in due.values():
            picture.times.segmented_s = segmented_s
        # Images of one batch share their times.
        for size in Counter(id(result.times) for result in results if isinstance(result, Segmentation)).values():
            self._batches.add(size)
        return dict(zip(due, results, strict=True))

    def _publish(self, due: Mapping[Camera, Picture], results: Mapping[Camera, Segmentation | Exception]) -> None:
        done: list[Camera] = []
        for camera, result in results.items():
            if isinstance(result, Exception):
                if not isinstance(result, StaleFrame):
                    self._suspects.add(camera)
                _tell(camera, result)
                continue
            self._suspects.discard(camera)
            with camera.attended():
                camera.publish(due[camera], result)
                done.append(camera)
        for camera in done:
            with camera.attended():
                camera.publish_extras(due[camera])


def _tell(camera: Camera, error: Exception) -> None:
    """What came of the camera's frame, as if it had just been raised."""
    with camera.attended():
        try:
            raise error
        finally:
            del error  # else it would hold itself, by its traceback
