"""Conversations as tokens, with a mask of those that are learnt: responses with their end token.

The ids are those that `transformers`' apply_chat_template gives, and what stands before a response
those of the prompt that a model is given for it. Where a template has no {% generation %} marks, a
response is what it adds to a conversation rendered up to there with add_generation_prompt.
"""

import hashlib
import itertools
import json
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maxlite import outputs
from maxlite.data.chat import Conversation, Message
from maxlite.data.chat_templates import Files, own, template, with_template
from maxlite.errors import InputError
from maxlite.tokenizer import Tokenizer

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Encoded(NamedTuple):
    """Conversations as documents.

    Attributes:
      about: of each, its tokens, the UTF-8 bytes and characters of its responses, and a hash of the
        conversation; uint64 [N, 4].
      ids: of each, int32 [T].
      learnt: of each, uint8 [T], 1 where a token is learnt.
      left_out: conversations that hold the string of a special token.
    """

    about: np.ndarray
    ids: list[np.ndarray]
    learnt: list[np.ndarray]
    left_out: int


def taught(files: Files, name: str, tokenizer: Tokenizer) -> Files:
    """A model's files with the chat template that it is taught, where that is not its own.

    Args:
      files: companion files of the model.
      name: of the template.
      tokenizer: of the model.
    """
    text = template(name, tokenizer)
    if own(files) == text:
        return files
    return with_template(files, text, ChatEncoder(tokenizer, text).end, tokenizer.eos)


@dataclass
class _Piece:
    """A conversation as a template writes it, or a part of one.

    Attributes:
      text: all of it.
      spans: where the responses begin and end in it, the end token counted.
      source: what it is of.
    """

    text: str
    spans: list[tuple[int, int]]
    source: Conversation
    learnt: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.learnt = [self.text[start:end] for start, end in self.spans]

    @property
    def borders(self) -> list[int]:
        """Where spans begin and end, and the end of the text."""
        return [*itertools.chain(*self.spans), len(self.text)]


@dataclass
class ChatEncoder:
    """Writes conversations under a template and encodes them.

    Attributes:
      tokenizer: of the model.
      template: the text of the template.
    """

    tokenizer: Tokenizer
    template: str

    def __call__(self, conversations: Sequence[Conversation]) -> Encoded:
        """Encodes conversations, in their order.

        One whose template writes earlier turns otherwise once others follow becomes a document for
        each response, which is the only one learnt in it.

        Raises:
          InputError: the template refuses a conversation or writes no end token, the tokenizer
            can't be loaded or can't write some character.
        """
        kept = [one for one in conversations if not self._holds_special(one)]
        pieces = [piece for one in kept for piece in self._written(one)]
        ids_of = self._encoded({piece.text[:at] for piece in pieces for at in piece.borders})
        joined = [self._joined(piece, ids_of) for piece in pieces]
        about = [self._about(*both) for both in zip(pieces, joined, strict=True)]
        return Encoded(
            np.array(about, "<u8").reshape(-1, 4),
            [np.array(ids, np.int32) for ids, _ in joined],
            [np.array(learnt, np.uint8) for _, learnt in joined],
            len(conversations) - len(kept),
        )

    def _encoded(self, texts: Collection[str]) -> dict[str, list[int]]:
        """The ids of texts, as apply_chat_template gives them."""
        settings = {"add_special_tokens": False, "return_attention_mask": False}
        found = self._theirs([*texts], **settings)["input_ids"] if texts else []
        return dict(zip(texts, found, strict=True))

    @property
    def end(self) -> int:
        """The id of the token that ends a response."""
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        (piece,) = self._written(Conversation(turns, f"{self.tokenizer.path.parent}"))
        *_, last = self._special.finditer(piece.learnt[-1])
        return self._theirs.convert_tokens_to_ids(last[0])

    @cached_property
    def _theirs(self) -> Any:
        """The tokenizer as `transformers` loads it from the model's folder."""
        from transformers import AutoTokenizer

        with tempfile.TemporaryDirectory() as folder:
            files = dict(self.tokenizer.files)
            files["config.json"] = json.dumps({"model_type": self._model_type}).encode()
            outputs.fill(Path(folder), files)
            try:
                return AutoTokenizer.from_pretrained(folder)
            except Exception as error:  # it raises what it likes
                first = (str(error).strip() or repr(error)).splitlines()[0]
                raise InputError(
                    f"transformers can't load the tokenizer in {self.tokenizer.path.parent}, whose "
                    f"ids conversations get: {first}"
                ) from None

    @property
    def _model_type(self) -> str:
        """Says the tokenizer's class where its settings don't, as in the model's folder."""
        beside = self.tokenizer.path.with_name("config.json")
        if self.tokenizer.path.is_file() and beside.is_file():
            return str(json.loads(beside.read_bytes()).get("model_type", "llama"))
        return "llama"

    @cached_property
    def _special(self) -> re.Pattern[str]:
        """Matches the strings of special tokens."""
        added = self._theirs.added_tokens_decoder.values()
        strings = {*self._theirs.all_special_tokens, *(str(t) for t in added if t.special)} - {""}
        longest = sorted(strings, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest)) or r"(?!)")

    def _holds_special(self, one: Conversation) -> bool:
        return any(self._special.search(message["content"]) for message in one.messages)

    def _written(self, one: Conversation) -> list[_Piece]:
        """A conversation as the template writes it, whole where that is what a model would see."""
        whole, marked = self._render(one, one.messages)
        if _MARKS.search(self.template):
            if not marked:
                raise self._refuse(one, "marks nothing as generated")
            return [_Piece(whole, [self._to_end(one, whole, *span) for span in marked], one)]
        pieces = []
        for k, message in enumerate(one.messages):
            if message["role"] == "assistant":
                prompt, _ = self._render(one, one.messages[:k], prompt=True)
                last = k + 1 == len(one.messages)
                text = whole if last else self._render(one, one.messages[: k + 1])[0]
                if not text.startswith(prompt):
                    raise self._refuse(one, "does not begin a response where its prompt ends")
                pieces.append(_Piece(text, [self._until_end(one, text, len(prompt))], one))
        if all(whole.startswith(piece.text[: piece.spans[0][1]]) for piece in pieces):
            return [_Piece(whole, [piece.spans[0] for piece in pieces], one)]
        return pieces

    def _render(
        self, one: Conversation, messages: list[Message], prompt: bool = False
    ) -> tuple[str, list[tuple[int, int]]]:
        """Messages as the template writes them, and what it marks as generated."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered: Any = render_jinja_template(
                [messages],
                chat_template=self.template,
                return_assistant_tokens_mask=bool(_MARKS.search(self.template)),
                add_generation_prompt=prompt,
                **self._theirs.special_tokens_map,
            )
        except ImportError as error:
            raise InputError(f"chat templates can't be rendered: {error}") from None
        except Exception as error:  # a template may fail in any way
            raise self._refuse(one, f"refuses it: {error}") from None
        (text,), marked = rendered
        return text, marked[0] if marked else []

    def _until_end(self, one: Conversation, text: str, start: int) -> tuple[int, int]:
        """The span of a response that is the last thing in a text: until its end token."""
        *_, last = [None, *self._special.finditer(text, start)]
        if last is None or text[last.end() :].strip():
            raise self._refuse(one, "writes no end token after a response")
        return start, last.end()

    def _to_end(self, one: Conversation, text: str, start: int, end: int) -> tuple[int, int]:
        """The span of a response that the template marks, with the end token if that follows it."""
        *_, last = [None, *self._special.finditer(text, start, end)]
        if last and not text[last.end() : end].strip():
            return start, end
        if after := self._special.match(text, end):
            return start, after.end()
        raise self._refuse(one, "writes no end token after a response")

    def _joined(
        self, piece: _Piece, ids_of: Mapping[str, list[int]]
    ) -> tuple[list[int], list[int]]:
        """The ids of a piece, and which are learnt, from those of its text up to each border."""
        whole = ids_of[piece.text]
        ids: list[int] = []
        learnt: list[int] = []
        done = 0
        for (start, end), text in zip(piece.spans, piece.learnt, strict=True):
            prompt, until = ids_of[piece.text[:start]], ids_of[piece.text[:end]]
            if whole[: len(until)] != until or prompt[:done] != whole[:done]:
                raise self._refuse(piece.source, "ends a response within a token")
            # Where a token would reach over the border the model still begins after the prompt.
            same = until[: len(prompt)] == prompt
            response = until[len(prompt) :] if same else self._inside(piece, text)
            ids += prompt[done:] + response
            learnt += [0] * (len(prompt) - done) + [1] * len(response)
            done = len(until)
        return ids + whole[done:], learnt + [0] * (len(whole) - done)

    def _inside(self, piece: _Piece, text: str) -> list[int]:
        """The ids of a response as it goes on after a prompt, without a space put before it."""
        ids: list[int] = []
        for part in filter(None, re.split(f"({self._special.pattern})", text)):
            if self._special.fullmatch(part):
                ids.append(self._theirs.convert_tokens_to_ids(part))
                continue
            (found,) = self.tokenizer.encode_inside([part.encode()])
            if not len(found):
                raise InputError(
                    f"{piece.source.where}: {self.tokenizer.path} can't write a response"
                )
            ids += found.tolist()
        return ids

    def _about(self, piece: _Piece, joined: tuple[list[int], list[int]]) -> list[int]:
        said = [self._special.sub("", text).strip() for text in piece.learnt]
        turns = [[message["role"], message["content"]] for message in piece.source.messages]
        digest = hashlib.blake2b(json.dumps(turns).encode(), digest_size=8).digest()
        return [
            len(joined[0]),
            sum(len(text.encode()) for text in said),
            sum(map(len, said)),
            int.from_bytes(digest, "little"),
        ]

    def _refuse(self, one: Conversation, why: str) -> InputError:
        return InputError(
            f"{one.where}: the chat template {why}; change the conversation, or take another "
            "template"
        )
