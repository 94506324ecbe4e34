"""The command line, ``tdnet-ros COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from tdnet_ros import __version__
from tdnet_ros.commands.evaluation import accuracy, compare, evaluate, make_bag
from tdnet_ros.commands.export import export
from tdnet_ros.commands.timing import benchmark, profile
from tdnet_ros.commands.training import average, train
from tdnet_ros.commands.video import demo, play, segment
from tdnet_ros.commands.weights import convert, models
from tdnet_ros.errors import TdnetRosError

COMMANDS = (
    demo,
    segment,
    play,
    evaluate,
    compare,
    accuracy,
    make_bag,
    train,
    average,
    export,
    convert,
    benchmark,
    profile,
    models,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    # OpenMP's threads by default spin while they wait. On a machine that has other work to do they then take the
    # processor from those they wait for, and a frame takes five to ten times as long. Children inherit this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--ros-args") if "--ros-args" in given else len(given)
    parser = argparse.ArgumentParser(
        prog="tdnet-ros", description="Streaming semantic segmentation for video and ROS 2."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__
        )
        subparser.set_defaults(run=command(subparser))
    parsed = parser.parse_args(given[:split])
    parsed.ros_arguments = given[split + 1 :]
    try:
        return int(parsed.run(parsed))
    except TdnetRosError as error:
        print(f"tdnet-ros: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tdnet-ros: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
