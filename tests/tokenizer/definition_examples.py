"""What the tests of definitions share: texts, new pieces, and files to make and to read."""

import json

import sentencepiece
import tokenizers
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as pb2

TEXTS = st.lists(st.text(alphabet="the moon SEes, 12가나.\n▁é🙂<s>", max_size=30), max_size=4)
LINES = ["The cat sees  the moon", " 가나다 the", "", "  ", "x\n\ty ▁é🙂"]
NEW = ["가", "나", "가나", "▁가", "▁가나", "▁moonlight", "다", "나다", "▁sees▁"]


def read(data: bytes):
    proto = pb2.ModelProto()
    proto.ParseFromString(data)
    return proto


def folder(path, **files):
    path.mkdir()
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        (path / name.replace("__", ".")).write_bytes(content)
    return path


def edited(path, change):
    """A copy of a tokenizer.json beside it, after `change(tree)`."""
    tree = json.loads(path.read_text("utf-8"))
    change(tree)
    target = path.with_name("edited.json")
    target.write_text(json.dumps(tree, ensure_ascii=False), "utf-8")
    return target


def same_ids(definition, texts=LINES):
    """The two forms of a definition agree, by the libraries themselves."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=definition.read("tokenizer.model"))
    fast = tokenizers.Tokenizer.from_str(definition.read("tokenizer.json").decode())
    fast.encode_special_tokens = True
    for text in texts:
        assert fast.encode(text, add_special_tokens=False).ids == processor.encode(text), text
