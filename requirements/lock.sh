#!/usr/bin/env bash
# Makes the lock files anew: the exact versions that pip puts into clean environments today.
#   requirements/lock.sh      {,corpus-,test-}py31{1,2}.txt and tpu.txt
# The others add to the runtime's: what cleans text, as the demo does, and the tests'. The tests' for
# 3.12 leaves out the peers that are compared with (torch, peft, mergekit); tests that need them are
# skipped there, and say so. tpu.txt is the compiler that .ci/run puts beside the test environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

freeze() { # PYTHON-OF-ENVIRONMENT: what it holds, without pip, this project and machine's addresses
  "$1" -m pip freeze --all --exclude pip --exclude wheel --exclude maxlite |
    sed -E 's/^(torch==[^+]*)\+.*/\1/' | LC_ALL=C sort -f
}

for minor in 11 12; do
  python="$(find_python "$minor")" || fail "there is no Python 3.$minor to make its lock with"
  say "Python 3.$minor"
  "$python" -m venv "$work/$minor"
  inside="$work/$minor/bin/python"
  "$inside" -m pip install -qq --upgrade setuptools
  "$inside" -m pip install -qq -e .
  freeze "$inside" >"$work/py3$minor.txt"
  "$python" -m venv "$work/corpus$minor"
  "$work/corpus$minor/bin/python" -m pip install -qq -c "$work/py3$minor.txt" -e '.[corpus]'
  freeze "$work/corpus$minor/bin/python" >"$work/corpus-py3$minor.txt"
  if [ "$minor" = 11 ]; then
    "$inside" -m pip install -qq --no-deps "$(grep -oE 'torch==[0-9.]+' setup.py)"
    "$inside" -m pip install -qq -c "$work/corpus-py3$minor.txt" -e '.[test]'
  else
    "$inside" -m pip install -qq -c "$work/py3$minor.txt" hypothesis pytest ruff mypy
  fi
  freeze "$inside" >"$work/test-py3$minor.txt"
  if [ "$minor" = 11 ]; then
    "$inside" -m pip install -qq -c "$work/py3$minor.txt" -e '.[tpu]'
    freeze "$inside" | grep '^libtpu==' >"$work/tpu.txt"
  fi
done
for lock in "$work"/*.txt; do
  { echo "# Made by requirements/lock.sh; do not edit."; cat "$lock"; } >"requirements/$(basename "$lock")"
done
