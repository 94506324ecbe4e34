"""A step of a network of ours beside any other streaming callable and our single-frame networks, in turn.

Each round measures one step of every contender and one matrix product of every precision; rounds begin with another
contender each time. A step begins with a normalised image on the device, and ends with logits at the image's size or,
with --until mask, with labels. How another callable has to look stands in benchmarks/contenders.py, how the peak of
the memory is found in benchmarks/peak_memory.py.

GMAC are those of one step with a full window: of ours as tdnet_ros/networks/cost.py counts them, of another callable as
torch's flop counter finds them. The product is of square matrices in the same precision; a stream whose algorithm takes
fewer multiplications than a convolution is counted for can exceed it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.contenders import DTYPES, Contender, arithmetic, find_function, open_stream
from benchmarks.peak_memory import ALLOCATOR, Memory, measure_memory
from benchmarks.race import Race
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import network_info
from tdnet_ros.streaming.models import shipped_weights
from tdnet_ros.streaming.runtime import Preprocessor, Runtime
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.source_frames import frames
from tdnet_ros.video.sources import open_source

_PICTURES = 24
_SEED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parse(given)
    torch.backends.cudnn.benchmark = True
    contenders = _contenders(options)
    if options.memory_of is not None:
        print(json.dumps(_own_memory(contenders[options.memory_of], options)._asdict()))
        return 0
    watch = machine.begin(options)
    all_threads = torch.get_num_threads()
    results = []
    for width, height in options.sizes:
        memory = _memory(given, contenders, (width, height)) if options.memory else {}
        for threads in options.threads if options.steps else ():
            torch.set_num_threads(threads or all_threads)
            race = Race(contenders, _pictures(options, height, width), _weights(options), options.device)
            result = watch.measure(partial(race.measure, options.steps, options.compare, options.until))
            result |= {"size": [width, height], "device": _describe(options.device), "until": options.until}
            results.append(result)
            _print(options, result)
        if memory:
            results.append({"size": [width, height], "until": options.until, "memory_mib": memory})
            _print_memory(options, results[-1])
    names = ("model", "weights", "video", "against", "steps")
    settings = {name: getattr(options, name) for name in names}
    machine.write_json(options.json, {**watch.circumstances, **settings, "results": results})
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.networks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="td4_psp18")
    parser.add_argument("--against", nargs="*", default=[], metavar="MODULE:FUNCTION", help="other streams")
    parser.add_argument("--single", nargs="*", default=["psp18", "psp50", "psp101"], help="networks of ours beside it")
    parser.add_argument("--weights", default="random", help="weight file, 'shipped', or 'random': compares no labels")
    parser.add_argument("--video", default="", help="pictures come from this video, folder or bag; default: noise")
    parser.add_argument("--sizes", type=machine.size_of, nargs="+", default=[(480, 360), (1537, 769)], metavar="WxH")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 0], help="CPU threads, 0: one per core")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"), help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--precision", nargs="+", choices=DTYPES, default=["fp32"], help="of ours; the single-frame ones have the first"
    )
    parser.add_argument(
        "--against-precision", nargs="+", choices=DTYPES, default=["fp32"], help="of others; half ones by autocast"
    )
    parser.add_argument("--runtime", nargs="+", default=["auto"], help="engines of ours, such as eager or compile")
    parser.add_argument("--until", choices=("logits", "mask"), default="logits", help="where a step ends")
    parser.add_argument("--steps", type=int, default=30, help="of each contender; 0: memory alone")
    parser.add_argument("--compare", type=int, default=12, metavar="N", help="steps whose labels are compared")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="leave out the peak of the memory")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)  # for the process of one contender
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _contenders(options: argparse.Namespace) -> list[Contender]:
    found = [Contender("ours", options.model, p, runtime) for p in options.precision for runtime in options.runtime]
    for function in options.against:
        find_function(function)  # a wrong name is to be found before anything is measured
        found += [Contender("other", options.model, p, function=function) for p in options.against_precision]
    found += [Contender("single", model, options.precision[0]) for model in options.single if model != options.model]
    names = [contender.name for contender in found]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"contenders are {names}, expected each name once")
    return found


def _weights(options: argparse.Namespace) -> Path | None:
    if options.weights == "random":
        return None
    return shipped_weights(options.model) if options.weights == "shipped" else Path(options.weights)


def _pictures(options: argparse.Namespace, height: int, width: int) -> list[Tensor]:
    """Normalised images (1, 3, H, W) float32, contiguous, on the CPU: the first ones of the video, or noise."""
    rng = np.random.default_rng(_SEED)
    noise = (Frame(rng.integers(0, 256, (height, width, 3), np.uint8)) for _ in range(_PICTURES))
    shown = islice(frames(open_source(options.video)), _PICTURES) if options.video else noise
    preprocess = Preprocessor(network_info(options.model), Runtime("cpu", "fp32"))
    return [preprocess(frame, (height, width)).clone(memory_format=torch.contiguous_format) for frame in shown]


def _memory(
    given: Sequence[str], contenders: Sequence[Contender], size: tuple[int, int]
) -> dict[str, dict[str, float]]:
    """MiB by contender, each found in a process of its own."""
    found = {}
    for index, contender in enumerate(contenders):
        command = [sys.executable, "-m", "benchmarks.networks", *given]
        command += ["--memory-of", str(index), "--sizes", f"{size[0]}x{size[1]}"]
        done = subprocess.run(command, env={**os.environ, **ALLOCATOR}, stdout=subprocess.PIPE, text=True, check=True)
        memory = json.loads(done.stdout.splitlines()[-1])
        found[contender.name] = {name: round(mib, 1) for name, mib in memory.items()}
    return found


def _own_memory(contender: Contender, options: argparse.Namespace) -> Memory:
    """That of this process, over two steps of every sub-network."""
    (width, height), device = options.sizes[0], options.device
    if options.threads[0]:
        torch.set_num_threads(options.threads[0])
    pictures = _pictures(options, height, width)

    def load() -> Callable[[], None]:
        stream = open_stream(contender, height, width, _weights(options), device)
        step = stream.logits if options.until == "logits" else stream.mask

        def run() -> None:
            for index in range(2 * network_info(contender.model).subnetworks):
                step(stream.prepare(pictures[index % len(pictures)]), index)

        return run

    with torch.inference_mode(), arithmetic(contender, device):
        return measure_memory(load, device)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)"


def _print(options: argparse.Namespace, result: Mapping[str, Any]) -> None:
    (width, height), contenders = result["size"], result["contenders"]
    ours = list(next(iter(contenders.values()))["times_ours"])
    print(f"{options.model}, {width}x{height}, {result['device']}, step until {options.until}, {options.steps} rounds")
    print("  matrix product, GFLOP/s: " + ", ".join(f"{p} {speed}" for p, speed in result["product_gflops"].items()))
    widest = max(map(len, contenders))
    heading = f"  {'':<{widest}}{'engine':>12}{'p50 ms':>10}{'p95 ms':>10}{'GMAC':>9}{'GFLOP/s':>9}{'of product':>12}"
    print(heading + "".join(f"{'times ' + name:>26}" for name in ours))
    for name, figures in contenders.items():
        line = f"  {name:<{widest}}{figures['engine']:>12}{figures['ms']['p50']:>10.1f}{figures['ms']['p95']:>10.1f}"
        line += f"{figures['gmac']:>9.1f}{figures['gflops']:>9.1f}{figures['share_of_product']:>12.2f}"
        ratios = ("{:.2f} ({:.2f} to {:.2f})".format(*figures["times_ours"][other]) for other in ours)
        print(line + "".join(f"{ratio:>26}" for ratio in ratios))
    print("  times: median over rounds of its step over that of ours in the same round (p5 to p95)")
    for name, figures in contenders.items():
        if "reference" in figures and name != figures["reference"]:
            print(
                f"  {name} against {figures['reference']}, {options.compare} steps: "
                f"{figures['same_labels']:.3%} of labels equal (worst step {figures['same_labels_worst_step']:.3%}), "
                f"logits differ by at most {figures['logit_difference']:.1e}"
            )
    print(flush=True)


def _print_memory(options: argparse.Namespace, result: Mapping[str, Any]) -> None:
    (width, height), found = result["size"], result["memory_mib"]
    widest = max(map(len, found))
    print(f"{options.model}, {width}x{height}, step until {options.until}: memory, MiB")
    print(f"  {'':<{widest}}{'weights':>10}{'peak above':>12}{'together':>10}")
    for name, memory in found.items():
        together = memory["weights"] + memory["peak"]
        print(f"  {name:<{widest}}{memory['weights']:>10.1f}{memory['peak']:>12.1f}{together:>10.1f}")
    print(flush=True)


if __name__ == "__main__":
    machine.run(main)
