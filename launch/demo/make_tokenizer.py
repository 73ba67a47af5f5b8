"""Trains the demo's tokenizer: a small SentencePiece BPE model with byte fallback, as Llama's are.

It is trained on the English stories alone, so that a Korean syllable costs three tokens, one a
byte: where the users of a Llama stand at first.

  python launch/demo/make_tokenizer.py --text=stories.txt --size=512 --out=FOLDER
"""

import argparse
import io
import json
import sys
from pathlib import Path

import sentencepiece

_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"make_tokenizer: {args.out} exists; remove it or give another --out")
    model = io.BytesIO()  # a trainer that is given file names writes them into the model
    with args.text.open(encoding="utf-8") as lines:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(line.rstrip("\n") for line in lines),
            model_writer=model,
            model_type="bpe",
            vocab_size=args.size,
            byte_fallback=True,
            split_digits=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            num_threads=1,  # the same pieces every time
            minloglevel=2,
        )
    args.out.mkdir(parents=True)
    (args.out / "tokenizer.model").write_bytes(model.getvalue())
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False}
    for name, value in (
        ("tokenizer_config.json", config | _SPECIAL),
        ("special_tokens_map.json", _SPECIAL),
    ):
        (args.out / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    print(f"{args.out}: {args.size} pieces")


if __name__ == "__main__":
    main()
