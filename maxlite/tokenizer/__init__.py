"""Tokenizers: loading, encoding and decoding."""

from maxlite.tokenizer.tokenizer import Tokenizer, check_rows, load_tokenizer

__all__ = ["Tokenizer", "check_rows", "load_tokenizer"]
