"""The one exception whose text is shown to the user as it is, and what such texts share."""

import difflib
from collections.abc import Collection


class InputError(Exception):
    """Something the user gave is wrong.

    The text is one sentence that says what is wrong, where, and what to do. Entry points print it
    to stderr without a traceback and exit with status 1.
    """


def suggestion(name: str, known: Collection[str]) -> str:
    """For the end of a sentence on a name that there is not: the one that was meant, or all."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f"did you mean '{near[0]}'?" if near else f"choose from {', '.join(known)}"
