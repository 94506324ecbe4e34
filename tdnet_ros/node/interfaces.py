"""Message types of packages that an installation may lack: what needs them is then switched off, nothing else."""

from __future__ import annotations

import importlib
import os

from tdnet_ros.errors import ConfigurationError


def interface(package: str, message: str) -> type:
    """The message type ``package/msg/message``. Raises ConfigurationError, with the way to get it."""
    try:
        module = importlib.import_module(f"{package}.msg")
        return getattr(module, message)  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        distribution = os.environ.get("ROS_DISTRO", "$ROS_DISTRO")
        raise ConfigurationError(
            f"{package}/{message} is not installed ({error}), which this needs: "
            f"sudo apt install ros-{distribution}-{package.replace('_', '-')}"
        ) from error
