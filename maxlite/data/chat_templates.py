"""Chat templates: the named ones, and that of a model's own tokenizer.

A template is a Jinja program that writes a conversation as text. It is rendered by `transformers`,
in the sandbox in which everyone renders the templates of models: it sees plain data, and can
neither reach Python's objects nor any file.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from maxlite.errors import InputError
from maxlite.outputs import json_text
from maxlite.tokenizer import Tokenizer

OWN = "own"
FILE = "chat_template.jinja"  # where transformers 5 writes it, and looks first
_CONFIG, _KEY, _GENERATION = "tokenizer_config.json", "chat_template", "generation_config.json"
Files = Mapping[str, Path | bytes]

# Chinese-LLaMA-Alpaca's text. Its prompt ends with a space, which is the response's first character
# here: most tokenizers make one piece of a space and a word, which a border between would part.
_ALPACA = """\
{{- bos_token }}
{%- set asked = messages %}
{%- if messages[0]['role'] == 'system' %}
    {{- messages[0]['content'] | trim }}
    {%- set asked = messages[1:] %}
{%- else %}
    {{- 'Below is an instruction that describes a task. ' }}
    {{- 'Write a response that appropriately completes the request.' }}
{%- endif %}
{%- for message in asked %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] == 'tool' %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- elif message['role'] == 'user' %}
        {{- '\\n\\n### Instruction:\\n' + message['content'] | trim + '\\n\\n### Response:' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + eos_token }}
    {%- endif %}
{%- endfor %}
"""

_LLAMA2 = """\
{%- set asked = messages %}
{%- set system = '' %}
{%- if messages[0]['role'] == 'system' %}
    {%- set asked = messages[1:] %}
    {%- set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
{%- endif %}
{%- for message in asked %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) or message['role'] == 'tool' %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- elif message['role'] == 'user' %}
        {%- set content = (system if loop.first else '') + message['content'] %}
        {{- bos_token + '[INST] ' + content | trim + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'] | trim + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

_LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

NAMED = {"alpaca": _ALPACA, "llama2": _LLAMA2, "llama3": _LLAMA3, "chatml": _CHATML}
_NEEDED = {  # special tokens that a template writes; else they would be read as many pieces
    "llama3": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}


def check_name(name: str) -> None:
    """Refuses a template that is none of those there are.

    Raises:
      InputError: with the names that there are.
    """
    if name and name != OWN and name not in NAMED:
        raise InputError(
            f"there is no chat template {name!r}; there are {', '.join(NAMED)}, and "
            f"{OWN!r} for the model's own"
        )


def template(name: str, tokenizer: Tokenizer) -> str:
    """The text of a template.

    Args:
      name: one of `NAMED`, or "own" for that of the tokenizer's files.
      tokenizer: of the model.

    Raises:
      InputError: there is no such template, or the tokenizer lacks a special token it needs.
    """
    check_name(name)
    if name == OWN:
        if found := own(tokenizer.files):
            return found
        raise InputError(
            f"{tokenizer.path.parent} has no chat template of its own; name one with the source's "
            f"template: {', '.join(NAMED)}"
        )
    for token in _NEEDED.get(name, ()):
        index = tokenizer.find(token)
        if index is None or tokenizer.raw(index) is not None:
            fitting = ", ".join(other for other in NAMED if other not in _NEEDED)
            raise InputError(
                f"the chat template {name!r} needs the special token {token}, which "
                f"{tokenizer.path} does not have; take another template ({fitting}), or add it "
                "with tools.merge_tokenizer --add_special and tools.extend_vocab"
            )
    return NAMED[name]


def own(files: Files) -> str:
    """The chat template among a tokenizer's files; "" if there is none."""
    if FILE in files:
        return _read(files[FILE]).decode()
    said = json.loads(_read(files.get(_CONFIG, b"{}"))).get(_KEY) or ""
    if isinstance(said, list):  # several by name
        said = {one["name"]: one["template"] for one in said}
    return said.get("default", "") if isinstance(said, dict) else str(said)


def with_template(files: Files, text: str, end: int, eos: int | None) -> dict[str, Path | bytes]:
    """A model's files with a chat template, so that who loads it writes what it was taught.

    Args:
      files: companion files of a model.
      text: the template.
      end: the id with which it ends a response, at which generation is to stop.
      eos: the tokenizer's, where it stops if the files don't say it.
    """
    changed = {**files, FILE: text.encode()}
    config = json.loads(_read(files.get(_CONFIG, b"{}")))
    if config.pop(_KEY, None):
        changed[_CONFIG] = json_text(config).encode()
    said = json.loads(_read(files.get(_GENERATION, b"{}")))
    ends = said.get("eos_token_id", [] if eos is None else eos)
    ends = ends if isinstance(ends, list) else [ends]
    if end not in ends:
        changed[_GENERATION] = json_text({**said, "eos_token_id": [*ends, end]}).encode()
    return changed


def _read(file: Path | bytes) -> bytes:
    return file if isinstance(file, bytes) else file.read_bytes()
