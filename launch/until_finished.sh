# Sourced by what starts training jobs: local.sh, slurm.sbatch, tpu_vm.sh.
# shellcheck shell=bash
#
# A job is started again until its run is finished. Who sources this defines
#   attempt      starts the job and waits for its end; returns its status, or $LOST
#   stands       prints the status, the last checkpoint and the folder of the run
# and may define again
#   interrupt    asks the job to save and end

# shellcheck disable=SC2034 # these are for who sources it
LOST=75    # the machine was taken away, which counts as no try
LEFT=76    # a signal came: the run has saved its state, or had not begun
GRACE=20   # seconds in which processes end by themselves when another of their job has failed
PAUSE=5    # seconds before the next start

children=()
signalled=""

interrupt() {
  [ "${#children[@]}" -eq 0 ] || kill -TERM "${children[@]}" 2>/dev/null || true
}

collect() { # waits for all children; returns the status of the first that failed
  local pid status first=0 deadline="" left
  while [ "${#children[@]}" -gt 0 ]; do
    { sleep 0.3; } 2>/dev/null # a trap is served between two; bash tells on stderr who was killed
    left=()
    for pid in "${children[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then
        left+=("$pid")
        continue
      fi
      status=0
      { wait "$pid" || status=$?; } 2>/dev/null
      [ "$first" -ne 0 ] || first="$status"
    done
    children=(${left[@]+"${left[@]}"})
    if [ "$first" -ne 0 ] && [ "${#children[@]}" -gt 0 ]; then
      deadline="${deadline:-$((SECONDS + GRACE))}"
      [ "$SECONDS" -lt "$deadline" ] || kill -KILL "${children[@]}" 2>/dev/null || true
    fi
  done
  return "$first"
}

# until_finished TRIES: starts the job until its run is finished; returns $LEFT after a signal.
# Fails when the run has got no further in that many starts.
until_finished() {
  local tries="$1" more="$1" best=-1 status step out code
  trap 'signalled=TERM; interrupt' TERM INT
  trap 'signalled=USR1; interrupt' USR1
  while true; do
    code=0
    attempt || code=$?
    read -r status step out <<<"$(stands || echo unknown -1 "the run")"
    if [ "$status" = finished ] && [ "$code" -eq 0 ]; then
      return 0
    elif [ -n "$signalled" ]; then
      say "$(basename "$0"): stopped by a signal; $out is $status, its last checkpoint is $step"
      return "$LEFT"
    elif [ "$step" -gt "$best" ]; then
      best="$step" more="$tries"
    elif [ "$code" -ne "$LOST" ]; then
      more=$((more - 1))
    fi
    [ "$more" -gt 0 ] || fail "given up: $out got no further than checkpoint $step in $tries" \
      "starts (it is $status, status $code); what it said is above and in ${log:-the log}"
    say "$(basename "$0"): ended with status $code; $out is $status, its last checkpoint is $step:" \
      "starting again"
    sleep "$PAUSE"
    [ -z "$signalled" ] || return "$LEFT"
  done
}

# --- what their command lines share --------------------------------------------------------------

help_of() { # prints the comment that a script begins with
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1" | grep -Ev '^(SBATCH|shellcheck) '
}

positive() { # NAME VALUE
  case "$2" in
    "" | *[!0-9]* | 0*) fail "$1=$2 must be a whole number above 0" ;;
  esac
}

unknown() {
  fail "unknown argument '$1'; --help says what there is, and after -- comes what is for" \
    "maxlite.train"
}

need_maxlite() {
  python -c 'import maxlite' 2>/dev/null ||
    fail "the python on the PATH has no maxlite; activate the environment that it is installed in"
}
