"""A dataclass as a node's ROS parameters: the fields are the names, the defaults the types, the metadata the rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, field, fields, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterUninitializedException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from tdnet_ros.errors import ConfigurationError

Settings = TypeVar("Settings")
_UNBOUNDED = 1_000_000_000


def setting(
    default: Any,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter. ``live``: it may be changed while the node works."""
    metadata = {
        "description": description,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "live": live,
    }
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def declare_settings(node: Node, settings_type: type[Settings]) -> Settings:
    """Declare every field as a parameter and return the values that the user gave.

    Raises ConfigurationError, which names parameter, value and range, when one of them is not allowed.
    """
    values = {}
    for item in fields(settings_type):  # type: ignore[arg-type]
        default = item.default_factory() if callable(item.default_factory) else item.default
        try:
            value = node.declare_parameter(item.name, default, describe(item)).value
            # An empty list has no type in YAML: ROS takes it for no value at all.
            values[item.name] = default if value is None else value
        except InvalidParameterValueException as error:
            raise ConfigurationError(
                f"parameter '{item.name}' is {_refused(error)}, expected {_allowed(item)}"
            ) from error
        except (InvalidParameterTypeException, ParameterUninitializedException) as error:
            raise ConfigurationError(
                f"parameter '{item.name}' has the wrong type, expected {type(default).__name__}"
            ) from error
    return checked(settings_type(**values))


def undeclared(node: Node) -> list[str]:
    """What the user gave for this node and nobody has declared, in words: misspelt names, as a rule.

    ``qos_overrides`` count as soon as the node has all its publishers and subscriptions; ask afterwards.
    """
    # rclpy has no other way to them but to declare all of them.
    given: Iterable[str] = node._parameter_overrides
    known = list(node.get_parameters_by_prefix(""))
    texts = []
    for name in sorted(name for name in given if not node.has_parameter(name)):
        close = get_close_matches(name, known, 1)
        texts.append(f"parameter '{name}' is unknown" + (f": '{close[0]}' is meant?" if close else ""))
    return texts


def checked(settings: Settings) -> Settings:
    """The settings, if every value keeps its range and its choices; else raises ConfigurationError."""
    for item in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, item.name)
        low, high, choices = (item.metadata[name] for name in ("minimum", "maximum", "choices"))
        outside = isinstance(value, int | float) and (
            (low is not None and not value >= low) or (high is not None and not value <= high)
        )
        if outside or (choices and value not in choices):
            raise ConfigurationError(f"parameter '{item.name}' is {_text(value)}, expected {_allowed(item)}")
    return settings


def changed(settings: Settings, parameters: Iterable[Parameter], working: bool) -> Settings:
    """The settings after a parameter update; raises ConfigurationError when one of the changes is not allowed.

    While the node is ``working`` only live fields may change. Parameters of others (use_sim_time) are passed over.
    """
    known = {item.name: item for item in fields(settings)}  # type: ignore[arg-type]
    values = {}
    for parameter in parameters:
        item = known.get(parameter.name)
        if item is None:
            continue
        if working and not item.metadata["live"] and parameter.value != getattr(settings, parameter.name):
            raise ConfigurationError(
                f"parameter '{parameter.name}' is fixed while the node is configured: clean up first"
            )
        values[parameter.name] = parameter.value
    return checked(replace(settings, **values))  # type: ignore[type-var]


def describe(item: Field[Any]) -> ParameterDescriptor:
    """The ROS description of a field, with its range."""
    rules = item.metadata
    descriptor = ParameterDescriptor(description=rules["description"])
    if rules["choices"]:
        descriptor.additional_constraints = _allowed(item)
    low, high = rules["minimum"], rules["maximum"]
    if low is not None or high is not None:
        low = -_UNBOUNDED if low is None else low
        high = _UNBOUNDED if high is None else high
        if isinstance(item.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high))]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    return descriptor


def _allowed(item: Field[Any]) -> str:
    low, high, choices = (item.metadata[name] for name in ("minimum", "maximum", "choices"))
    if choices:
        return f"one of {', '.join(choices)}"
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"at least {low}"
    return f"at most {high}" if high is not None else f"a value of type {type(item.default).__name__}"


def _refused(error: InvalidParameterValueException) -> str:
    # rclpy keeps the value in the text alone: "Invalid parameter value (7) for parameter. Reason: ..."
    return str(error).partition("(")[2].rpartition(") for parameter")[0]


def _text(value: object) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value)
