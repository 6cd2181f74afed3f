"""The one exception that means "your input, not our code"."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input, told in one line: what was wrong, where, what was found, and what to do.

    The command line prints the message and exits with status 2; the Python API raises it.
    """
