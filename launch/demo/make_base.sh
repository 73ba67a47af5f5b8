#!/usr/bin/env bash
# Makes the demo's base model: a tiny Llama (0.8M parameters, 1.6 MB) that knows English, and of Korean
# only what one story in a hundred has taught it.
#   launch/demo/make_base.sh FOLDER
# Text and tokenizer are made by the scripts beside this one, the weights by maxlite from random ones;
# 5 minutes on two cores. launch/demo/base is a FOLDER that this wrote.
set -euo pipefail
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
mkdir -p "$(dirname "$1")"
folder="$(cd "$(dirname "$1")" && pwd)/$(basename "$1")"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
source launch/environment.sh

[ ! -e "$folder" ] || fail "$folder exists; remove it or name another folder"
environment .venv/demo ""
python="$PWD/.venv/demo/bin/python"
export JAX_PLATFORMS=cpu
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
export MAXLITE_CACHE="$work/cache"

"$python" launch/demo/make_text.py --language=en --stories=20000 --out="$work/text/english.txt"
"$python" launch/demo/make_text.py --language=ko --stories=200 --seed=7 --out="$work/text/korean.txt"
"$python" launch/demo/make_tokenizer.py --text="$work/text/english.txt" --size=512 --out="$work/tokenizer"
"$python" -m maxlite.train --config=pretrain.py \
  --config.architecture.hidden_size=128 \
  --config.architecture.intermediate_size=344 \
  --config.architecture.num_hidden_layers=4 \
  --config.architecture.num_attention_heads=4 \
  --config.architecture.num_key_value_heads=2 \
  --config.architecture.max_position_embeddings=512 \
  --config.data.train="$work/text/*.txt" \
  --config.data.tokenizer="$work/tokenizer" \
  --config.steps=500 --config.batch_size=16 --config.seq_len=256 \
  --config.optimizer.learning_rate=3e-3 \
  --config.out="$work/run" --config.export="$folder" --config.export_dtype=bfloat16
[ -e "$folder" ] || fail "training was stopped before its end; start again"
du -sh "$folder"
