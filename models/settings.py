"""Settings from the command line: ``key=value`` strings, typed by the fields of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from ..graphs.errors import InputError


def parse_settings(settings: Sequence[str], config: type, given: Mapping[str, Any] | None = None) -> Any:
    """Turn ``key=value`` strings into a configuration of some class, each value by the type of its field.

    Parameters
    ----------
    settings
        What the user sets.
    config
        The class.
    given
        What takes the place of the usual values.

    Raises
    ------
    InputError
        An unknown key, or a value of another type or outside its range; lists what there is.
    """
    usual = config(**(given or {}))
    known = {f.name: getattr(usual, f.name) for f in fields(config)}
    types = get_type_hints(config)
    chosen: dict[str, Any] = dict(given or {})
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign:
            raise InputError(f"--set {setting}: pass KEY=VALUE, like --set {next(iter(known.items()))[0]}=…")
        if key not in known:
            choices = ", ".join(f"{name}={value}" for name, value in known.items())
            raise InputError(f"--set {setting}: no such setting. There are (with their defaults) {choices}.")
        chosen[key] = _typed(key, text, types[key], known[key])
    return config(**chosen)


def _typed(key: str, text: str, hint: Any, default: Any) -> Any:
    """Read a value by the type of its field; what is a choice of words stays text, and is checked by the configuration."""
    if text.lower() == "none" and type(None) in get_args(hint):
        return None
    kind = next((t for t in (get_args(hint) or (hint,)) if t in (bool, int, float)), str)
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return kind(text)
    except (ValueError, KeyError):
        like = f", like {default}" if default is not None else ""
        raise InputError(f"--set {key}={text}: expected {kind.__name__}{like}.") from None
