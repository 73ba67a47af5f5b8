#!/usr/bin/env bash
# Runs the checks and the tests in an environment of their own, .venv/test (the first run makes it).
#   tests/run.sh             formatter, linter, type checker, then every test
#   tests/run.sh -k packing  only pytest, with these arguments
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

environment .venv/test test-
bin="$PWD/.venv/test/bin"

MAXLITE_CACHE="$(mktemp -d)"
trap 'rm -rf "$MAXLITE_CACHE"' EXIT
export MAXLITE_CACHE  # tests/conftest.py sets the rest of the environment

# Most of the time goes into compiling: the second run finds it done. Compiled code is for one kind of
# processor, so each has its own folder.
processor="$({ grep -m1 '^flags' /proc/cpuinfo 2>/dev/null || uname -mp; } | cksum | cut -d' ' -f1)"
export JAX_COMPILATION_CACHE_DIR="$PWD/.venv/test/compiled/$processor"

if [ $# -eq 0 ]; then
  say "ruff format, ruff check, mypy"
  "$bin/ruff" format --check --quiet . || fail "files above are not formatted; run $bin/ruff format ."
  "$bin/ruff" check --quiet .
  "$bin/mypy" maxlite
  set -- -n auto --maxprocesses 4 --dist loadfile  # a file's fixtures are made once
fi
"$bin/python" -m pytest "$@"
