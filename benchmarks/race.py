"""Contenders measured step by step in turn, so that what slows the machine down for a while slows them all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.contenders import DTYPES, Contender, Stream, arithmetic, open_stream

#: Rows of the square matrix product whose speed stands for what the machine can do.
_PRODUCT_SIZE = {"cpu": 1024, "cuda": 8192}
#: Steps before the first that counts: the longest window of the catalog is full, and each sub-network has run with it.
_WARM_UP = 8


class Race:
    """All contenders at one size and number of threads, each in its own stream of the same pictures."""

    def __init__(
        self, contenders: Sequence[Contender], pictures: Sequence[Tensor], weights: Path | None, device: torch.device
    ) -> None:
        self._contenders = list(contenders)
        self._pictures = pictures
        self._device = device
        self._compares = weights is not None
        height, width = pictures[0].shape[2:]
        self._streams: dict[Contender, Stream] = {}
        for contender in contenders:
            with torch.inference_mode(), arithmetic(contender, device):
                self._streams[contender] = open_stream(contender, height, width, weights, device)
        self._index = 0

    def measure(self, steps: int, compare: int, until: str) -> dict[str, Any]:
        """Figures by contender: times of ``steps`` steps until ``logits`` or ``mask``, agreement over ``compare``."""
        with torch.inference_mode():
            for _ in range(_WARM_UP):
                self._round(until)
            rounds = [self._round(until) for _ in range(steps)]
            agreement = self._agreement(compare) if self._compares and compare else {}
            gmac = {c: stream.gmac(self._picture(stream), self._index) for c, stream in self._streams.items()}
        ours = [contender for contender in self._contenders if contender.kind == "ours"]
        times = {contender: np.array([ms[contender] for ms, _ in rounds]) for contender in self._contenders}
        products = {p: float(np.median([ms[p] for _, ms in rounds])) for p in rounds[0][1]}
        gflops = {p: 2e-6 * _PRODUCT_SIZE[self._device.type] ** 3 / ms for p, ms in products.items()}
        results = {}
        for contender, found in times.items():
            achieved = 2e3 * gmac[contender] / float(np.median(found))
            results[contender.name] = {
                "ms": machine.percentiles(found),
                "times_ours": {other.name: _ratio(found, times[other]) for other in ours},
                "engine": self._streams[contender].engine,
                "gmac": round(gmac[contender], 3),
                "gflops": round(achieved, 1),
                "share_of_product": round(achieved / gflops[contender.precision], 3),
                **agreement.get(contender, {}),
            }
        return {"contenders": results, "product_gflops": {p: round(value, 1) for p, value in gflops.items()}}

    def _round(self, until: str) -> tuple[dict[Contender, float], dict[str, float]]:
        """Milliseconds of one step of each contender and of one matrix product in each precision."""
        first = self._index % len(self._contenders)
        steps, products = {}, {}
        for contender in self._contenders[first:] + self._contenders[:first]:
            stream = self._streams[contender]
            work = partial(stream.logits if until == "logits" else stream.mask, self._picture(stream), self._index)
            with arithmetic(contender, self._device):
                steps[contender] = self._time(work)
            if contender.precision not in products:
                products[contender.precision] = self._time_product(contender)
        self._index += 1
        return steps, products

    def _picture(self, stream: Stream) -> Tensor:
        return stream.prepare(self._pictures[self._index % len(self._pictures)])

    def _time_product(self, contender: Contender) -> float:
        rows = _PRODUCT_SIZE[self._device.type]
        factor = torch.ones(rows, rows, dtype=DTYPES[contender.precision], device=self._device)
        with arithmetic(contender, self._device):
            return self._time(partial(torch.mm, factor, factor))

    def _time(self, work: partial[Tensor]) -> float:
        """Milliseconds until the device has done it."""
        self._synchronise()
        started = time.perf_counter()
        work()
        self._synchronise()
        return 1e3 * (time.perf_counter() - started)

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _agreement(self, steps: int) -> dict[Contender, dict[str, Any]]:
        """Labels and logits beside those of the first other stream (or of ours), as the streams go on."""
        equals = [contender for contender in self._contenders if contender.takes_weights]
        reference = next((contender for contender in equals if contender.kind == "other"), equals[0])
        shares: dict[Contender, list[float]] = {contender: [] for contender in equals}
        differences: dict[Contender, list[float]] = {contender: [] for contender in equals}
        for _ in range(steps):
            answers = {}
            for contender in equals:
                stream = self._streams[contender]
                with arithmetic(contender, self._device):
                    answers[contender] = stream.answer(self._picture(stream), self._index)
            for contender, answer in answers.items():
                labels, logits = answers[reference]
                shares[contender].append(float((answer.labels == labels).float().mean()))
                differences[contender].append(float((answer.logits.float() - logits.float()).abs().max()))
            self._index += 1
        return {
            contender: {
                "reference": reference.name,
                "same_labels": round(float(np.mean(shares[contender])), 5),
                "same_labels_worst_step": round(min(shares[contender]), 5),
                "logit_difference": float(f"{max(differences[contender]):.2g}"),
            }
            for contender in equals
        }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> list[float]:
    """Median, 5th and 95th percentile over the rounds."""
    return [round(float(value), 3) for value in np.percentile(numerator / denominator, (50, 5, 95))]
