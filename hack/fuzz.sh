#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the tree for $FUZZTIME (default 10s), one after the other.
set -euo pipefail

# -list prints the targets of a package, then "ok <package> <time>".
targets=$(go test -list '^Fuzz' ./... | awk '/^Fuzz/ { names = names " " $1 } /^ok/ { n = split(names, a, " "); for (i = 1; i <= n; i++) print $2, a[i]; names = "" }')
[ -n "$targets" ] || { echo "fuzz: there is no fuzz target in this tree"; exit 0; }
while read -r package target; do
	echo "fuzz: $target in $package for ${FUZZTIME:-10s}"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package" </dev/null
done <<<"$targets"
echo "fuzz: $(wc -l <<<"$targets") targets, no finding"
