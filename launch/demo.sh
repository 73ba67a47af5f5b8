#!/usr/bin/env bash
# The whole story in about five minutes on two cores: a tiny model that is weak in Korean and Korean
# text go in; a Hugging Face folder with a vocabulary of its own, that has learned Korean, comes out.
#   launch/demo.sh [FOLDER]     everything it writes goes into FOLDER (runs/demo)
# Needs Python 3.11 or later, bash and pip; makes its own environment (.venv/demo).
# Start it again after an interruption: what is done is not done twice.
set -euo pipefail
start="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

run="${1:-runs/demo}"
case "${1:-/}" in /*) ;; *) run="$start/$1" ;; esac
base=launch/demo/base

environment .venv/demo corpus-
python="$PWD/.venv/demo/bin/python"
export JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1
export MAXLITE_CACHE="${MAXLITE_CACHE:-$PWD/.venv/demo/cache}"
trap 'say "demo.sh: stopped by the error above; start again to go on, or remove $run to begin anew"' ERR

stories() { # LANGUAGE COUNT FILE
  [ -e "$3" ] || "$python" launch/demo/make_text.py --language="$1" --stories="$2" --skip=0 --out="$3"
}

[ ! -e "$run/recipe/samples.jsonl" ] ||
  say "the demo has run before: this shows its result again (remove $run to begin anew)"

printf '\n== Text: Korean stories, and English ones so that it is not forgotten\n' >&2
stories ko 3000 "$run/text/korean.txt"
stories en 1000 "$run/text/english.txt"

printf '\n== The recipe, step by step (Ctrl-C stops; start again to go on)\n' >&2
arguments=(-m maxlite.recipe --config=demo/recipe.py --config.model="$base"
  --config.corpus="$run/text/korean.txt" --config.keep="$run/text/english.txt"
  --config.prompt="어느 봄날 소라는" --config.out="$run/recipe")
say "\$ $(typed python "${arguments[@]}")"
"$python" "${arguments[@]}"

"$python" - "$run/recipe" <<'PYTHON'
import json, sys
from pathlib import Path

out = Path(sys.argv[1])
before, after = (json.loads((out / f"{name}.json").read_text())["files"] for name in ("before", "after"))
print("\n== What it writes now")
for line in (out / "samples.jsonl").read_text("utf-8").splitlines()[:3]:
    print("  " + json.loads(line)["text"])
print("\n== Bits per byte of stories that it has not seen (less is better), and tokens a character")
print(f"{'':<10}{'before':>8}{'after':>8}{'before':>10}{'after':>8}")
for language, old, new in zip(("Korean", "English"), before, after):
    figures = (file[key] for key in ("bits_per_byte", "tokens_per_char") for file in (old, new))
    print(f"{language:<10}" + "{:>8.3f}{:>8.3f}{:>10.3f}{:>8.3f}".format(*figures))
if after[0]["bits_per_byte"] >= before[0]["bits_per_byte"]:
    sys.exit("Korean is no better than before: something is broken")
PYTHON
cat <<TEXT

The model is in $run/recipe/model, a Hugging Face folder: transformers loads it as it is.
Next: the same with your own model and text; configs/demo/recipe.py is the file to copy from,
  source .venv/demo/bin/activate
  python -m maxlite.recipe --config=demo/recipe.py --config.model=FOLDER --config.corpus='TEXT/*.txt' \\
    --config.out=runs/mine --plan
Every setting: python -m maxlite.recipe --config=demo/recipe.py --help
TEXT
