"""Settings from the command line: ``key=value`` strings, typed and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from ..graphs.errors import InputError
from .crossrec import CrossRecConfig


def parse_settings(settings: Sequence[str]) -> CrossRecConfig:
    """Turn ``key=value`` strings into a configuration, each value by the type of its field.

    Raises
    ------
    InputError
        An unknown key, or a value of another type; lists what there is.
    """
    known = {f.name: getattr(CrossRecConfig(), f.name) for f in fields(CrossRecConfig)}
    chosen: dict[str, Any] = {}
    for setting in settings:
        key, sign, text = setting.partition("=")
        if not sign or key not in known:
            choices = ", ".join(f"{name}={value}" for name, value in known.items())
            raise InputError(f"--set {setting}: no such setting. There are (with their defaults) {choices}.")
        chosen[key] = _typed(key, text, known[key])
    return _checked(CrossRecConfig(**chosen))


def _typed(key: str, text: str, default: Any) -> Any:
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        return type(default)(text)
    except (ValueError, KeyError):
        raise InputError(
            f"--set {key}={text}: expected a {type(default).__name__}, like {default}."
        ) from None


def _checked(config: CrossRecConfig) -> CrossRecConfig:
    for good, problem in (
        (config.target in ("raw", "binary"), f"target={config.target}: choose raw or binary"),
        (0 < config.threshold < 1, f"threshold={config.threshold}: choose a number between 0 and 1"),
        (0 <= config.dropout < 1, f"dropout={config.dropout}: choose a number from 0 to below 1"),
        (
            min(config.id_width, config.width, config.heads, config.top) > 0,
            "widths, heads and top must be positive",
        ),
        (
            config.heads > 0 and config.width % max(config.heads, 1) == 0,
            f"heads={config.heads}: must divide width={config.width}",
        ),
        (config.alpha >= 0, f"alpha={config.alpha}: must not be negative"),
    ):
        if not good:
            raise InputError(f"--set {problem}.")
    return config
