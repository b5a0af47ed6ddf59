#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the tree for $FUZZTIME (default 10s; a number and s, m
# or h), one after the other.
#
# The end comes as an interrupt, not by -fuzztime: until Go 1.27 that races with the
# workers and fails with "context deadline exceeded" (go.dev/issue/75804).
set -euo pipefail
cd "$(dirname "$0")/.."

# -list prints the targets of a package, then "ok <package> <time>".
targets=$(go test -list '^Fuzz' ./... | awk '/^Fuzz/ { names = names " " $1 } /^ok/ { n = split(names, a, " "); for (i = 1; i <= n; i++) print $2, a[i]; names = "" }')
[ -n "$targets" ] || { echo "fuzz: there is no fuzz target in this tree"; exit 0; }
binary=$(mktemp)
trap 'rm -f "$binary"' EXIT
while read -r package target; do
	echo "fuzz: $target in $package for ${FUZZTIME:-10s}"
	go test -c -o "$binary" -fuzz "^$target\$" "$package"
	(
		cd "$(go list -f '{{.Dir}}' "$package")" # where testdata/fuzz is
		timeout --foreground --preserve-status -s INT "${FUZZTIME:-10s}" "$binary" \
			-test.run '^$' -test.fuzz "^$target\$" -test.fuzzcachedir "$(go env GOCACHE)/fuzz/$package" </dev/null
	)
done <<<"$targets"
echo "fuzz: $(wc -l <<<"$targets") targets, no finding"
