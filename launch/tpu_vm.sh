#!/usr/bin/env bash
# Trains on a Cloud TPU slice: asks for it, installs maxlite on all of its workers, starts the job on
# them, and does so again after a preemption, until the run is finished.
#   launch/tpu_vm.sh --name=NAME --zone=ZONE --type=v5litepod-64 [--flag=value …] -- \
#     --config=FILE --config.out=gs://BUCKET/RUN [--config.key=value …]
#
#   --name, --zone   of the queued resource and of its node
#   --type           an accelerator type, such as v5litepod-64, v5p-32, v6e-16
#   --project        if not gcloud's own
#   --version        runtime of the machines (the one for the type)
#   --spot           at the price, and with the preemptions, of spot machines
#   --delete         gives the machines back when the run is finished
#   --tries=3        starts in which the run may get no further, before this gives up
#   --log=FILE       where all that is said is added (NAME.log)
#   --dry_run        prints the commands, and runs none
#
# What is installed is the commit that is checked out here. The run, the model and the text must be
# where every worker sees them. SIGTERM and Ctrl-C are passed on to the workers, which save; the
# machines stay, and cost, until they are given back. Needs gcloud, logged in; leave this running on a
# machine that stays on.
# shellcheck disable=SC2329 # until_finished calls what it does not see called
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/environment.sh
source "$here/environment.sh"
# shellcheck source=launch/until_finished.sh
source "$here/until_finished.sh"

name="" zone="" type="" project="" version="" spot="" delete="" tries=3 log="" dry_run=""
while [ $# -gt 0 ]; do
  case "$1" in
    --name=*) name="${1#*=}" ;;
    --zone=*) zone="${1#*=}" ;;
    --type=*) type="${1#*=}" ;;
    --project=*) project="${1#*=}" ;;
    --version=*) version="${1#*=}" ;;
    --spot) spot=yes ;;
    --delete) delete=yes ;;
    --tries=*) tries="${1#*=}" ;;
    --log=*) log="${1#*=}" ;;
    --dry_run) dry_run=yes ;;
    --help | -h) help_of "$0" && exit ;;
    --) shift && break ;;
    *) unknown "$1" ;;
  esac
  shift
done
[ -n "$name" ] && [ -n "$zone" ] && [ -n "$type" ] ||
  fail "--name, --zone and --type must be given; --help says what they are"
positive --tries "$tries"
case "$type" in
  v4-*) version="${version:-tpu-ubuntu2204-base}" ;;
  v5litepod-*) version="${version:-v2-alpha-tpuv5-lite}" ;;
  v5p-*) version="${version:-v2-alpha-tpuv5}" ;;
  v6e-*) version="${version:-v2-alpha-tpuv6e}" ;;
  *) [ -n "$version" ] || fail "--type=$type: no runtime is known for it; give --version, too" ;;
esac
[ -n "$dry_run" ] || command -v gcloud >/dev/null || fail "gcloud is not on the PATH; install it"
log="${log:-$name.log}"

arguments="$(typed "$@")"
where=(--zone="$zone" ${project:+--project="$project"})
python=.venv/tpu/bin/python

tpus() { # a command of gcloud's on TPUs; the last words are the same in all
  local words=(gcloud compute tpus "$@" "${where[@]}" --quiet)
  [ -z "$dry_run" ] || { typed "${words[@]}" && return; }
  "${words[@]}"
}

workers() { # WHICH COMMAND: runs it in a shell on workers
  tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

state() { # of the queued resource; empty where there is none
  local said
  if said="$(tpus queued-resources describe "$name" --format="value(state.state)" 2>&1)"; then
    printf '%s\n' "$said"
  elif [[ "$said" != *NOT_FOUND* ]]; then
    fail "gcloud cannot tell of $name: $(tail -n 1 <<<"$said")"
  fi
}

create() {
  tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
    --runtime-version="$version" ${spot:+--spot}
}

installed=""
install() {
  local archive="${TMPDIR:-/tmp}/maxlite-$name.tar.gz"
  [ -n "$dry_run" ] || git -C "$here/.." archive --format=tar.gz -o "$archive" HEAD || return
  tpus tpu-vm scp "$archive" "$name:maxlite.tar.gz" --worker=all || return
  [ -n "$dry_run" ] || rm "$archive"
  workers all "$(
    cat <<'REMOTE'
set -e
mkdir -p maxlite && tar -xzf maxlite.tar.gz -C maxlite && cd maxlite
source launch/environment.sh
find_python >/dev/null || { sudo apt-get -qq update && sudo apt-get -qq install -y python3.11-venv; }
environment .venv/tpu ''
.venv/tpu/bin/python -m pip install -q 'jax[tpu]' gcsfs -c <(.venv/tpu/bin/python -m pip freeze --exclude-editable)
REMOTE
  )" || return
  installed=yes
}

# Regular expressions that do not match the command which holds them.
stop="pkill -TERM -f '[m]axlite\\.train'"
settle="while pgrep -f '[m]axlite\\.train' >/dev/null; do sleep 1; done"

interrupt() { workers all "$stop || true" || true; }

stands() { workers 0 "cd maxlite && $python launch/run_status.py $arguments"; }

ready() { # waits until the machines are there; fails after a signal
  local now made="" told=""
  while [ -z "$signalled" ]; do
    now="$(state)" || exit 1
    case "$now" in
      ACTIVE) return ;;
      "")
        create || fail "gcloud could not ask for $name; its message is above"
        made=yes installed=""
        ;;
      FAILED | SUSPENDED)
        [ -z "$made" ] || [ "$now" = SUSPENDED ] || fail "$name could not be made;" \
          "gcloud compute tpus queued-resources describe $name ${where[*]} says why"
        tpus queued-resources delete "$name" --force ||
          fail "gcloud could not delete $name, which is $now; its message is above"
        ;;
      *)
        [ "$now" = "$told" ] || say "$name is $now: waiting"
        told="$now"
        sleep 30
        ;;
    esac
  done
  return 1
}

start() {
  [ -n "$installed" ] || install || return
  # Processes may be left of a start from which the connection was lost.
  workers all "$stop; $settle" || return
  workers all "cd maxlite && exec $python -m maxlite.train $arguments" &
  children=("$!")
  collect
}

attempt() {
  local code=0
  ready || return "$LOST"
  start || code=$?
  [ "$code" -eq 0 ] || [ "$(state)" = ACTIVE ] || code="$LOST"
  return "$code"
}

if [ -n "$dry_run" ]; then
  tpus queued-resources describe "$name" --format="value(state.state)"
  create
  install
  workers all "$stop; $settle"
  workers all "cd maxlite && exec $python -m maxlite.train $arguments"
  stands
  [ -z "$delete" ] || tpus queued-resources delete "$name" --force
  exit
fi
exec > >(trap '' INT TERM && exec tee -a "$log") 2>&1
code=0
until_finished "$tries" || code=$?
if [ "$code" -eq 0 ] && [ -n "$delete" ]; then
  tpus queued-resources delete "$name" --force
else
  say "$name is still there; give it back with:" \
    "gcloud compute tpus queued-resources delete $name ${where[*]} --force"
fi
[ "$code" -ne "$LEFT" ] || code=0
exit "$code"
