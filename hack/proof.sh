#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long tier: hours of what `make test` does once. Leaves a record in
# docs/measurements/ (see the README there), of failures too.
# PROOF_ROUNDS (default 10), PROOF_FUZZTIME (default 10m), PROOF_MANY (default
# 20 rounds with PROOF_FLOWS, a million flows), PROOF_FAULTS (default 100 of each)
# make it shorter.
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=${PROOF_ROUNDS:-10}
commit=$(git describe --always --dirty)
record=docs/measurements/$(date +%F)-$commit
failed=0
mkdir -p "$record"

# step NAME COMMAND...: the output goes to NAME.txt, the verdict to summary.txt.
step() {
	local name=$1 code=0 start=$SECONDS
	shift
	"$@" >"$record/$name.txt" 2>&1 || code=$?
	printf '%-8s exit %-3d %6d s  %s\n' "$name" "$code" $((SECONDS - start)) "$*" | tee -a "$record/summary.txt"
	[ "$code" = 0 ] || failed=1
}

machine() {
	uname -srvm
	lscpu | grep -E '^(Model name|CPU\(s\)|Hypervisor|L[23])'
	free -h
	go version
	cat /proc/loadavg
	git log -1 --oneline
}

# scene TEST FLAGS...: one of test/e2e, at its full length.
scene() {
	local name=$1
	shift
	CGO_ENABLED=0 go test -count=1 -timeout 6h -tags proof -v -run "^$name\$" ./test/e2e "$@"
}

# others: all of version 2, which counts in seconds, too.
others() {
	CGO_ENABLED=0 go test -count="$rounds" -timeout 6h -tags proof -v ./test/interop
}

drills() {
	local i
	for ((i = 1; i <= rounds; i++)); do
		echo "--- round $i of $rounds"
		bin/tandem-lab drill crash
	done
}

compare() {
	local bench code=0
	for bench in sync commit memory lag join failover; do
		bin/tandem-lab bench "$bench" --compare -n "$rounds" --save "$record" || code=1
	done
	return $code
}

# faults strikes in each way, at each interval; a tenth of it beside keepalived, and
# of halts that are shorter and longer.
faults() {
	local fault interval length code=0 n=${PROOF_FAULTS:-100}
	for interval in 1s 100ms 10ms; do
		for fault in power link kill stop freeze; do
			bin/tandem-lab bench failover --fault "$fault" --interval "$interval" --flows 1000 -n 1 --strikes "$n" --save "$record/faults" || code=1
			bin/tandem-lab bench failover --fault "$fault" --interval "$interval" --flows 1000 -n 1 --strikes $(((n + 9) / 10)) --compare --save "$record/faults/beside" || code=1
		done
		for length in 200ms 5s; do
			bin/tandem-lab bench failover --fault freeze --freeze "$length" --interval "$interval" --flows 1000 -n 1 --strikes $(((n + 9) / 10)) --compare --save "$record/faults/beside" || code=1
		done
	done
	bin/tandem-lab bench busy --interval 10ms --for 10m --compare -n 1 --save "$record" || code=1
	return $code
}

: >"$record/summary.txt"
step machine machine
step tests make test TESTFLAGS="-count=$rounds -shuffle=on -p 1 -timeout 6h"
step race make race TESTFLAGS="-count=$((rounds / 3 + 1)) -shuffle=on -p 1 -timeout 6h"
step fuzz make fuzz FUZZTIME="${PROOF_FUZZTIME:-10m}"
step bench make bench TESTFLAGS="-count=$rounds -p 1 -timeout 6h" BENCHTIME=2s
step drills drills
step mutants scene TestMutants -mutants
step parted scene TestPartition -partition 60s
step badlink scene TestHandOverOnABadLink -bad.turns 50
step storm scene TestStorm -storm 10m -storm.seed "$RANDOM"
step joined scene TestKillInJoin -join.flows 100000
step many scene TestMany -many.rounds "${PROOF_MANY:-20}" -many.flows "${PROOF_FLOWS:-1000000}"
step interop others
step compare compare
step faults faults
echo "proof: the record is in $record"
exit "$failed"
