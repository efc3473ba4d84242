#!/usr/bin/env bash
# Finds tests that fail by chance: `make stress` runs every package's tests COUNT times with the race detector while
# all cores are busy. The load is a busy loop per core and twice as many test processes as cores. -short shortens what
# takes long each time: the machine's property test and limits, and the store's tests of disks that fail. Everything
# that this script started stops when it is interrupted, fails or ends.
#
# Usage: COUNT=20 tools/stress.sh ./...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly count=${COUNT:-20} go=${GO:-go} race=${RACE--race}
[ "$#" -gt 0 ] || set -- ./...
if ! [ "$count" -gt 0 ] 2>/dev/null; then
	echo "COUNT is \"$count\"; want a number of runs, such as 20" >&2
	exit 2
fi
cores=$(getconf _NPROCESSORS_ONLN)
readonly cores

# Job control puts every job into its own process group, so that a signal reaches its children too.
set -m
log=$(mktemp)
jobs=()
running=

stop() {
	local job
	for job in ${running:+"$running"} "${jobs[@]}"; do
		kill -s "$1" -- "-$job" 2>/dev/null || true
	done
}

# interrupted lets go test remove what it built; a second signal doesn't wait for that.
interrupted() {
	trap 'stop KILL' INT TERM HUP
	stop INT
	wait || true
	exit 130
}
trap interrupted INT TERM HUP
trap 'stop KILL; rm -f "$log"' EXIT

# A busy loop checks from time to time that this script still runs, so it can't outlive the script.
busy() {
	local i
	while kill -0 "$$" 2>/dev/null; do
		for ((i = 0; i < 50000; i++)); do :; done
	done
}
for ((core = 0; core < cores; core++)); do
	busy &
	jobs+=("$!")
	disown "$!"
done

# The timeout is for all runs of a package.
(
	"$go" test ${race:+"$race"} -short -count="$count" -p "$((2 * cores))" -timeout "$((4 * count + 5))m" "$@" 2>&1 |
		tee "$log"
) &
running=$!
code=0
wait "$running" || code=$?
running=

ok=$(grep -c '^ok ' "$log" || true)
echo
echo "=== summary: $ok packages passed $count times"
if [ "$code" -ne 0 ]; then
	# How often each test failed, and which packages did.
	grep -E '^ *--- FAIL: ' "$log" | sed -E 's/^ *--- (FAIL: [^ ]+).*/\1/' | sort | uniq -c || true
	grep -E '^FAIL	' "$log" || true
	echo "$(grep -c 'WARNING: DATA RACE' "$log" || true) data races"
	exit 1
fi
