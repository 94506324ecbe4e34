"""What every way of running a network's step has in common."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from tdnet_ros.networks.network import SegmentationNetwork, StepPlan

#: A step made ready: (image, *cached) -> (scores, *kept), as ``SegmentationNetwork.compute`` of one plan.
PreparedStep: TypeAlias = Callable[..., tuple[Tensor, ...]]

#: So many steps stay ready. Eleven sizes of a four-path network: a camera that changes its size all the time must
#: not fill the memory.
_CAPACITY = 77


class Engine(ABC):
    """Stands for ``network.compute``: the same tensors in, the same tensors out, to rounding.

    An engine prepares each step once, by plan and by shape, dtype and device of the tensors, when it is first asked
    for it; ``Segmenter.warm_up`` sees to it that this is before the first frame. What ``compute`` returns belongs
    to the caller: no later call changes it. Threads may share an engine.

    A subclass writes ``prepare``, and refuses in its constructor, with ConfigurationError, where it cannot run.
    """

    #: Whether ``prepare`` takes time, so that each step is worth meeting before it is needed.
    prepares: ClassVar[bool] = True
    #: Whether it is at most a moment, so that a window may come in an order that is not that of the rotation.
    any_order: ClassVar[bool] = False

    def __init__(self, network: SegmentationNetwork, device: torch.device) -> None:
        self.network = network
        self.device = device
        self._steps: OrderedDict[object, PreparedStep] = OrderedDict()
        self._lock = threading.Lock()

    @abstractmethod
    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        """Make the step of that plan ready for tensors like these: image (B, 3, H, W) and what the plan reads.

        Called inside ``torch.inference_mode``. Raises ConfigurationError when the step cannot be made ready.
        """

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Normalised image (B, 3, H, W) and cached tensors -> scores (B, classes, h, w) and the tensors to keep."""
        cached = tuple(x.contiguous() for x in cached)  # one layout, as the step was prepared for one
        key = (plan, *((x.shape, x.dtype) for x in (image, *cached)))
        with self._lock:
            step = self._steps.get(key)
            if step is None:
                step = self._steps[key] = self.prepare(plan, image, *cached)
                if len(self._steps) > _CAPACITY:
                    self._steps.popitem(last=False)
            self._steps.move_to_end(key)
        return step(image, *cached)

    @property
    def scales(self) -> frozenset[float] | None:
        """Scales at which it can serve frames between keyframes; None for every one."""
        return None

    @property
    def prepared(self) -> list[StepPlan]:
        """The plans of the steps that are ready, one for each step."""
        with self._lock:
            return [key[0] for key in self._steps]  # type: ignore[index]
