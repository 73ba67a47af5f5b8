"""Which document it was at which the code of a step failed."""

import contextlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from datatrove.data import Document

from maxlite.errors import InputError


@contextlib.contextmanager
def blaming(
    name: str, batch: Sequence[Document], alone: Callable[[int, str], Any]
) -> Iterator[None]:
    """Turns what a step's code raises into a sentence with the document and the line of code.

    Args:
      name: of the step.
      batch: what was given to it.
      alone: does the same with one document of the batch, given its place and text.

    Raises:
      InputError: in place of any other error but those of the system.
    """
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:
        where, cause = f"document {batch[0].id}" if batch else "its start", error
        for i, document in enumerate(batch):
            try:
                alone(i, document.text)
            except Exception as same:
                where, cause = f"document {document.id}", same
                break
        frame = traceback.extract_tb(cause.__traceback__)[-1]
        raise InputError(
            f"the step '{name}' fails at {where}: {type(cause).__name__}: {cause} "
            f"({frame.filename}, line {frame.lineno})"
        ) from cause
