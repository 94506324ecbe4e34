"""Settings from yaml files into dataclasses. Unknown keys, wrong types and missing fields are errors that name them."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tdnet_ros.errors import ConfigurationError

Part = TypeVar("Part")
#: Told every field's own name, its value and its full name such as ``stages[0].steps``; raises ConfigurationError.
Check = Callable[[str, Any, str], None]

#: Values of one file. Aliases let a few lines stand for more than a memory holds, as soon as somebody prints them.
_MOST_VALUES = 200_000
_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_yaml(path: Path, what: str) -> Any:
    """The content of a yaml file: numbers, texts, lists and mappings alone, no objects.

    Raises ConfigurationError, which calls it ``what``, when it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ConfigurationError(f"{what} '{path}' cannot be read: it is nested too deep") from error
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: a date or number that there is not
        raise ConfigurationError(f"{what} '{path}' cannot be read: {error}") from error
    if sum(1 for _ in islice(_values(content), _MOST_VALUES + 1)) > _MOST_VALUES:
        raise ConfigurationError(f"{what} '{path}' holds more than {_MOST_VALUES} values, expected fewer")
    return content


def _values(content: Any) -> Iterator[Any]:
    """Every value in it, as often as aliases name it."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def read_extended(path: Path, what: str) -> Any:
    """As ``read_yaml``, with the fields that a file named by ``extends``, beside the file, gives and this one does not.

    Fields of fields are merged; any other value, a list too, takes the place of the other file's. That one may extend
    a further one. Raises ConfigurationError for files that extend each other as well.
    """
    return _read_extended(path, what, ())


def _read_extended(path: Path, what: str, extended_by: tuple[Path, ...]) -> Any:
    if path in extended_by:
        raise ConfigurationError(f"extends is '{path.name}' in '{extended_by[-1]}', expected no file that extends it")
    content = read_yaml(path, what)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    base = content.pop("extends")
    if not isinstance(base, str):
        raise ConfigurationError(f"extends is {base!r}, expected the name of a file beside '{path}'")
    return _merged(_read_extended(path.parent / base, what, (*extended_by, path)), content)


def _merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return {**base, **{key: _merged(base.get(key), value) for key, value in over.items()}}


def parse_settings(kind: type[Part], content: Any, check: Check, name: str = "") -> Part:
    """A dataclass of numbers, texts, truth values, tuples and such dataclasses from a yaml file's content.

    ``$NAME`` in texts stands for an environment variable. ``name`` is the part's own, '' for a whole file. Raises
    ConfigurationError.
    """
    if not isinstance(content, dict):
        raise ConfigurationError(f"{name or 'configuration'} is {content!r}, expected fields with their values")
    hints = typing.get_type_hints(kind)
    prefix = f"{name}." if name else ""
    for key in content:
        if key not in hints:
            raise ConfigurationError(f"{prefix}{key} is unknown, expected one of {sorted(hints)}")
    for entry in dataclasses.fields(typing.cast(Any, kind)):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in content:
            raise ConfigurationError(f"{prefix}{entry.name} is missing, expected {_expected(hints[entry.name])}")
    values = {key: _value(hints[key], value, check, f"{prefix}{key}") for key, value in content.items()}
    for key, value in values.items():
        check(key, value, f"{prefix}{key}")
    return kind(**values)


def _value(hint: Any, value: Any, check: Check, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return parse_settings(typing.cast(type[Any], hint), value, check, name)
    if typing.get_origin(hint) is tuple:
        arguments = typing.get_args(hint)
        many = arguments[-1] is Ellipsis
        if not isinstance(value, list) or (not many and len(value) != len(arguments)):
            raise ConfigurationError(f"{name} is {value!r}, expected a list" + ("" if many else " of two numbers"))
        kinds = [arguments[0]] * len(value) if many else arguments
        return tuple(_value(k, v, check, f"{name}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if isinstance(value, str) and hint is float:  # yaml takes 3e-4 for text
        with contextlib.suppress(ValueError):
            value = float(value)
    accepted: tuple[type, ...] = (int, float) if hint is float else (hint,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise ConfigurationError(f"{name} is {value!r}, expected {_expected(hint)}")
    if hint is str:
        return os.path.expandvars(str(value))
    return float(typing.cast(float, value)) if hint is float else value


def _expected(hint: Any) -> str:
    return "a list" if typing.get_origin(hint) is tuple else _KINDS.get(hint, "fields with their values")
