"""The one exception whose text is shown to the user as it is."""


class InputError(Exception):
    """Something the user gave is wrong.

    The text is one sentence that says what is wrong, where, and what to do. Entry points print it
    to stderr without a traceback and exit with status 1.
    """
