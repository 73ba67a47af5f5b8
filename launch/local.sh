#!/usr/bin/env bash
# Trains on this machine, in one process or several, and starts again until the run is finished.
#   launch/local.sh [--flag=value …] -- --config=FILE [--config.key=value …]
#
#   --processes=1   of the job, on this machine
#   --devices=N     of each process, where the device is a CPU (as many as it says by itself)
#   --tries=3       starts in which the run may get no further, before this gives up
#   --stopped=0     status to end with after a signal: the run is saved then, and not finished
#   --log=FILE      where all that is said is added (the run folder's name, and .log)
#   --dry_run       prints what would be started, and starts nothing
#
# SIGTERM and Ctrl-C are passed on: the processes save, and this ends when they have. When one of
# several processes dies the others are ended, and all are started again. Ends with 0 when the run
# is finished, with 1 when it has given up. The environment that maxlite is installed in must be
# active. One process sees all GPUs of a machine: --processes is for CPUs.
# shellcheck disable=SC2329 # until_finished calls what it does not see called
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/environment.sh
source "$here/environment.sh"
# shellcheck source=launch/until_finished.sh
source "$here/until_finished.sh"

processes=1 devices="" tries=3 stopped=0 log="" dry_run=""
while [ $# -gt 0 ]; do
  case "$1" in
    --processes=*) processes="${1#*=}" ;;
    --devices=*) devices="${1#*=}" && positive --devices "$devices" ;;
    --tries=*) tries="${1#*=}" ;;
    --stopped=*) stopped="${1#*=}" ;;
    --log=*) log="${1#*=}" ;;
    --dry_run) dry_run=yes ;;
    --help | -h) help_of "$0" && exit ;;
    --) shift && break ;;
    *) unknown "$1" ;;
  esac
  shift
done
positive --processes "$processes"
positive --tries "$tries"
case "$stopped" in "" | *[!0-9]*) fail "--stopped=$stopped must be a whole number" ;; esac
need_maxlite
arguments=("$@")

stands() { python "$here/run_status.py" ${arguments[@]+"${arguments[@]}"}; }

free_port() {
  local port
  while true; do
    port=$((20000 + RANDOM % 12000)) # below those that systems give out by themselves
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  echo "$port"
}

words_of() { # INDEX PORT: sets `words` to the command of a process
  words=(env)
  if [ -n "$devices" ]; then
    words+=("XLA_FLAGS=${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices")
  fi
  if [ "$processes" -gt 1 ]; then
    words+=("JAX_COORDINATOR_ADDRESS=127.0.0.1:$2" "JAX_NUM_PROCESSES=$processes" "JAX_PROCESS_ID=$1")
  fi
  [ "${#words[@]}" -gt 1 ] || words=()
  words+=(python -m maxlite.train ${arguments[@]+"${arguments[@]}"})
}

attempt() {
  local index port
  port="$(free_port)"
  for ((index = 0; index < processes; index++)); do
    words_of "$index" "$port"
    "${words[@]}" &
    children+=("$!")
  done
  collect
}

read -r _ _ out <<<"$(stands)" # says what is wrong with the config, before anything is started
[ -n "$out" ] || exit 1
case "$out" in
  *://*) log="${log:-${out##*/}.log}" ;;
  *) log="${log:-$out.log}" ;;
esac
if [ -n "$dry_run" ]; then
  for ((index = 0; index < processes; index++)); do
    words_of "$index" PORT
    typed "${words[@]}"
  done
  exit
fi
mkdir -p "$(dirname "$log")" 2>/dev/null || true
(: >>"$log") 2>/dev/null || fail "$log cannot be written; choose another --log"
exec > >(trap '' INT TERM && exec tee -a "$log") 2>&1
tee=$!
code=0
until_finished "$tries" || code=$?
[ "$code" -ne "$LEFT" ] || code="$stopped"
exec >&- 2>&-
wait "$tee" || true
exit "$code"
