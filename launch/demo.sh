#!/usr/bin/env bash
# The main job in about three minutes on two cores: a tiny model that is weak in Korean and Korean text
# go in; a Hugging Face folder that has learned Korean comes out.
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
model="$run/model"
prompt='어느 봄날 소라는'

environment .venv/demo ""
python="$PWD/.venv/demo/bin/python"
export JAX_PLATFORMS=cpu HF_HUB_OFFLINE=1
export MAXLITE_CACHE="${MAXLITE_CACHE:-$PWD/.venv/demo/cache}"
trap 'say "demo.sh: stopped by the error above; start again to go on, or remove $run to begin anew"' ERR

step() { printf '\n== %s\n' "$*" >&2; }
shown() { # prints the command as one would type it, then runs it
  say "\$ $(typed python "$@")"
  "$python" "$@"
}
stories() { # LANGUAGE COUNT SKIP FILE
  [ -e "$4" ] || "$python" launch/demo/make_text.py --language="$1" --stories="$2" --skip="$3" --out="$4"
}
score() { # MODEL FILE
  [ -e "$2" ] || shown -m tools.evaluate --model="$1" --text="$run/text/held_out/*.txt" --json="$2"
}

[ ! -e "$run/after.json" ] ||
  say "the demo has run before: this shows its result again (remove $run to begin anew)"

step "1. Text: Korean stories, with a tenth of English so that it is not forgotten"
stories ko 3000 0 "$run/text/train/korean.txt"
stories en 1000 0 "$run/text/train/english.txt"
stories ko 60 3000 "$run/text/held_out/korean.txt"
stories en 60 1000 "$run/text/held_out/english.txt"

step "2. The model before: bits per byte of stories it has not seen (less is better)"
score $base "$run/before.json"

step "3. Continued pre-training, and export (Ctrl-C saves; start again to go on)"
shown -m maxlite.train --config=continue.py --config.model=$base \
  --config.data.train="$run/text/train/*.txt" --config.out="$run/run" --config.export="$model" \
  --config.steps=400 --config.batch_size=4 --config.seq_len=512 \
  --config.optimizer.learning_rate=2e-3
if [ ! -e "$model" ]; then
  say "stopped before the end; start $0 again to go on"
  exit 1
fi

step "4. The model after"
score "$model" "$run/after.json"

step "5. What it writes now, from \"$prompt\""
shown -m tools.generate --model="$model" --prompt="$prompt" --max_new_tokens=400 \
  --temperature=0.3 --seed=1

step "Bits per byte"
"$python" - "$run/before.json" "$run/after.json" <<'PYTHON'
import json, os, sys

before, after = (json.load(open(path)) for path in sys.argv[1:])
print(f"{'':<10}{'before':>8}{'after':>8}")
for old, new in zip(before["files"], after["files"]):
    name = os.path.splitext(os.path.basename(old["name"]))[0]
    print(f"{name:<10}{old['bits_per_byte']:>8.3f}{new['bits_per_byte']:>8.3f}")
    if name == "korean" and new["bits_per_byte"] >= old["bits_per_byte"]:
        sys.exit("Korean is no better than before: something is broken")
PYTHON
cat <<TEXT

The model is in $model, a Hugging Face folder: transformers loads it as it is.
Next: the same with your own model and text,
  source .venv/demo/bin/activate
  python -m maxlite.train --config=continue.py --config.model=FOLDER --config.data.train='TEXT/*.txt' \\
    --config.out=runs/mine --config.export=runs/mine-model
Every setting: python -m maxlite.train --help
TEXT
