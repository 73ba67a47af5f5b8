"""Conversations in files, as lists of messages.

A file is a JSON array (.json), JSON lines (.jsonl), .csv with a header, or .parquet. What a record
is shows by its keys, unless the source's `field` says it:

    messages         a list of {"role", "content"}
    conversations    a list of {"from", "value"} (ShareGPT), or of the above
    instruction      with "output" and perhaps "input", put on a line after it (Alpaca)
    question         with "answer"; so are Q with A, and prompt with response or completion

A `field` such as "question,answer" names two columns, any other the one with the list.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from maxlite.data import sources
from maxlite.data.streams import open_bytes, readable
from maxlite.errors import InputError
from maxlite.storage import Place

Message = dict[str, str]
DEFAULT = "text"  # a source's field that says nothing
_ROLES = {  # as they are written: what templates call them
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bard", "bing", "model"), "assistant"),
    **dict.fromkeys(("system", "tool"), ""),
}
_PAIRS = (("question", "answer"), ("Q", "A"), ("prompt", "response"), ("prompt", "completion"))
_SAY_IT = (
    "name two columns with the source's field, such as field='question,answer', or the one that "
    "has the list of messages"
)


@dataclass(frozen=True)
class Conversation:
    """Messages in turns, of which the last is a response.

    Attributes:
      messages: each with "role" (system, user, assistant or tool) and "content".
      where: the file and its line or row, for messages to people.
    """

    messages: list[Message]
    where: str

    def __len__(self) -> int:
        """Characters."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True)
class ChatPart:
    """A file of conversations, as a part that one process reads.

    Attributes:
      path: the file.
      size: its bytes.
      field: of the source.
    """

    path: Place
    size: int
    field: str = DEFAULT

    @property
    def name(self) -> str:
        """The path, as text."""
        return str(self.path)

    def read(
        self, advance: Callable[[int], None], skipped: Callable[[int], None]
    ) -> Iterator[Conversation]:
        del skipped  # nothing is left out here
        yield from conversations(self.path, self.field, advance)


def conversations(
    path: Place, field: str = DEFAULT, advance: Callable[[int], None] = lambda size: None
) -> Iterator[Conversation]:
    """Yields the conversations of a file, in its order.

    What follows the last response of one, which nobody answers, is left out.

    Args:
      path: the file; a JSON array is read whole, all others a record at a time.
      field: of the source; see the top of this module.
      advance: called now and then with the number of the file's bytes read since the last call.

    Raises:
      InputError: the file can't be read, or a record is no conversation or has no response; the
        sentence names its line or row.
    """
    with readable(path):
        for where, record in _records(path, advance):
            messages = _messages(record, field, where)
            for message in messages:
                _check(message, where)
            if not (last := _answered(messages)):
                raise InputError(f"{where}: no response to learn from; answer it, or remove it")
            yield Conversation(messages[:last], where)


def _records(path: Place, advance: Callable[[int], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of a file and where each is."""
    match sources.kind(path, chat=True):
        case "parquet":
            yield from _rows(path, advance)
        case "csv":
            yield from _csv(path, advance)
        case "json" if _is_array(path):
            yield from _array(path, advance)
        case _:
            with sources.Lines(path, advance) as lines:
                for record in sources.json_records(lines):
                    yield lines.where(), record


def _is_array(path: Place) -> bool:
    """Whether a .json file is one array; if not, it is taken for lines."""
    with open_bytes(path, lambda size: None) as file:
        return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _array(path: Place, advance: Callable[[int], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_bytes(path, advance) as file:
        try:
            found = json.loads(file.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not a JSON array ({error})") from None
    for number, record in enumerate(found, 1):
        where = f"{path}, record {number}"
        if not isinstance(record, dict):
            raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
        yield where, record


def _csv(path: Place, advance: Callable[[int], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_bytes(path, advance) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", newline="")  # type: ignore[type-var]
        reader = csv.DictReader(text, strict=True)
        before = csv.field_size_limit(1 << 30)  # an answer may be long
        try:
            for record in reader:
                where = f"{path}, line {reader.line_num}"
                if None in record or None in record.values():
                    raise InputError(
                        f"{where}: not as many columns as the header has; put what holds commas in "
                        "quotes"
                    )
                yield where, record
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(
                f"{path}, after line {reader.line_num}: not CSV in UTF-8 ({error})"
            ) from None
        finally:
            csv.field_size_limit(before)


def _rows(path: Place, advance: Callable[[int], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    size, number = path.stat().st_size, 0
    with sources.parquet_file(path) as file:
        rows = max(file.metadata.num_rows, 1)
        for batch in file.iter_batches(batch_size=1024):
            for record in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", record
            advance(size * batch.num_rows // rows)


def _messages(record: Mapping[str, Any], field: str, where: str) -> list[Message]:
    """The messages of a record, by its keys or the field."""
    said = field if field != DEFAULT else ""
    if "," in said:
        columns = [name.strip() for name in said.split(",")]
        if len(columns) != 2 or not record.keys() >= set(columns):
            raise InputError(f"{where}: no columns {said!r} ({_has(record)}); {_SAY_IT}")
        return _pair(*(record[name] for name in columns))
    lists = (said,) if said else ("messages", "conversations")
    if name := next((name for name in lists if name in record), ""):
        if not isinstance(record[name], list):
            raise InputError(f"{where}: {name!r} is not a list of messages")
        return [_message(one, where) for one in record[name]]
    if not said and {"instruction", "output"} <= record.keys():
        more = record.get("input")
        asked = f"{record['instruction']}\n{more}" if more else record["instruction"]
        return _pair(asked, record["output"])
    if pair := next((pair for pair in _PAIRS if not said and {*pair} <= record.keys()), ()):
        return _pair(*(record[name] for name in pair))
    raise InputError(f"{where}: no conversation that is known ({_has(record)}); {_SAY_IT}")


def _has(record: Mapping[str, Any]) -> str:
    return "it has " + (", ".join(map(repr, list(record)[:8])) or "nothing")


def _pair(asked: Any, answer: Any) -> list[Message]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def _message(said: Any, where: str) -> Message:
    """A message in the words of templates."""
    if isinstance(said, dict) and said.get("tool_calls"):
        raise InputError(f"{where}: a message calls tools, which can't be learnt here; remove it")
    for role, content in (("role", "content"), ("from", "value")):
        if isinstance(said, dict) and {role, content} <= said.keys():
            name = said[role]
            if name not in _ROLES:
                known = ", ".join(_ROLES)
                raise InputError(f"{where}: nobody is known as {name!r}, only {known}")
            return {"role": _ROLES[name] or name, "content": said[content]}
    raise InputError(f"{where}: a message has no 'role' and 'content', nor 'from' and 'value'")


def _check(message: Message, where: str) -> None:
    """Refuses a message that is no text, and an empty response."""
    content, role = message["content"], message["role"]
    if not isinstance(content, str):
        raise InputError(f"{where}: what the {role} says is not text but {type(content).__name__}")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:  # JSON can write half of a surrogate pair, which is no character
        raise InputError(f"{where}: a message holds a lone surrogate, which is not text") from None
    if role == "assistant" and not content.strip():
        raise InputError(f"{where}: a response is empty; write one, or remove the record")


def _answered(messages: list[Message]) -> int:
    """How many messages there are up to the last response."""
    return max((n for n, one in enumerate(messages, 1) if one["role"] == "assistant"), default=0)
