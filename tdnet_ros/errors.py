"""Errors that tdnet_ros raises on purpose. Every message names the field, its value and what was expected."""

from __future__ import annotations


class TdnetRosError(Exception):
    """Base of all errors of this package: catch this to survive any bad input."""


class ImageError(TdnetRosError):
    """One raw image cannot be used: unknown encoding, zero size, data shorter than step * height."""


class DecodeError(TdnetRosError):
    """One compressed image or packet cannot be decoded, or only in part."""


class StaleFrame(TdnetRosError):
    """A frame's stamp is not newer than that of the frame before: it is dropped, the window stays as it was."""


class CheckpointError(TdnetRosError):
    """A weight file is missing, unreadable or does not fit the network."""


class ConfigurationError(TdnetRosError):
    """A setting names something that does not exist or lies outside its range."""


class SourceError(TdnetRosError):
    """A video file, image folder or bag cannot be opened or has nothing to play."""


class StateError(TdnetRosError):
    """A network was given a state of another batch, size or sub-network count than the picture calls for."""


class TrainingError(TdnetRosError):
    """A training cannot go on: the loss is not finite, or a checkpoint cannot be written or read."""


class NodeFailure(TdnetRosError):
    """The node cannot go on. Its process ends with this line and exit code 1, for a supervisor to start it again."""


class MachineBusy(TdnetRosError):
    """Others use so much of the machine that times measured on it would be theirs."""
