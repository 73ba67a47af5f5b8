# Sourced by scripts, above all those that make their own Python environment: tests/run.sh,
# launch/demo.sh, .ci/run.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

typed() { # prints a command as one would type it
  local word line=""
  for word in "$@"; do
    case "$word" in
      "" | *[!A-Za-z0-9_./=,:@%+-]*) word="'${word//\'/\'\\\'\'}'" ;;
    esac
    line+="$word "
  done
  printf '%s\n' "${line% }"
}

# find_python [MINOR]: prints a Python that starts, is 3.11 or later (3.MINOR if given) and can make
# an environment. The locked versions come first; $MAXLITE_PYTHON goes before all.
# A name on the PATH may be a pyenv shim for a version that is not selected: hence each is tried.
find_python() {
  local want="${1:-}" candidate
  local test="import sys, venv, importlib.util as u
v = sys.version_info[:2]
sys.exit(not (v >= (3, 11) and ('$want' in ('', str(v[1]))) and (u.find_spec('ensurepip') or u.find_spec('pip'))))"
  for candidate in ${MAXLITE_PYTHON:+"$MAXLITE_PYTHON"} python3.11 python3.12 python3 python3.13 python3.14 \
    python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python3; do
    if "$candidate" -c "$test" >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

# environment FOLDER KIND [PYTHON]: makes FOLDER an environment that holds exactly what the lock file
# says (KIND is "" for the runtime's, "corpus-" with what cleans text, "test-" for the tests') and this checkout, editable.
# Does nothing where that has been done before. Run in the root of the repository.
environment() {
  local folder="$1" kind="$2" python="${3:-}" version lock stamp
  if [ -z "$python" ]; then
    python="$(find_python)" || fail "no Python 3.11 or later that can make environments was found;" \
      "install Python 3.11 with its venv module, or set MAXLITE_PYTHON to one"
  fi
  version="$("$python" -c 'import sys; print("py3%d" % sys.version_info[1])')"
  lock="requirements/$kind$version.txt"
  # A Python newer than every lock gets the newest one.
  [ -f "$lock" ] || lock="requirements/${kind}py312.txt"
  stamp="$PWD $version $(cat "$lock" setup.py)"
  if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ] && "$folder/bin/python" -c '' 2>/dev/null; then
    return
  fi
  say "making $folder with $("$python" --version) from $lock (a few minutes the first time)"
  rm -rf "$folder"
  mkdir -p "$(dirname "$folder")"
  "$python" -m venv "$folder" >/dev/null 2>&1 ||
    { "$python" -m venv --clear --without-pip "$folder" &&
      "$python" -m pip --python "$folder/bin/python" install -qq pip; } ||
    fail "$python could not make an environment in $folder"
  if grep -q '^torch==' "$lock"; then
    # First and alone: a release of another index could be the CUDA build, of several GB.
    _pip "$folder" --retries 0 --extra-index-url https://download.pytorch.org/whl/cpu \
      --no-deps "$(grep '^torch==' "$lock")"
  fi
  _pip "$folder" -r "$lock"
  _pip "$folder" --no-deps --no-build-isolation -e .
  printf '%s\n' "$stamp" >"$folder/stamp"
}

_pip() {
  local folder="$1" compile=--no-compile
  shift
  # Python compiles what it imports, which is a fraction of what is installed; unless it is told not to.
  [ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || compile=--compile
  "$folder/bin/python" -m pip install -qq $compile --no-input --disable-pip-version-check "$@" \
    </dev/null ||
    fail "pip could not install into $folder (its message is above); check the network and pip's" \
      "settings, then start this script again"
}
