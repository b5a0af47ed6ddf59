// SPDX-License-Identifier: Apache-2.0

package control

import "fmt"

// nearlyFull is the share of nf_conntrack_max, in percent, above which the
// kernel table deserves a look.
const nearlyFull = 80

// Room says whether the kernel table has room for more flows of the peers'
// copy that are not in it: "" when it has, else a sentence that says what to
// set. short: they do not fit; otherwise it is nearly full.
func (t KernelTable) Room(more int) (text string, short bool) {
	all := uint64(t.Entries) + uint64(max(more, 0))
	what := "is nearly full"
	switch {
	case all > uint64(t.Max):
		what, short = "is too small", true
	case all <= uint64(t.Max)*nearlyFull/100:
		return "", false
	}
	return fmt.Sprintf("the kernel table %s: %d entries and %d more in the copy of the peers' flows, nf_conntrack_max = %d: "+
		"raise it with sysctl -w net.netfilter.nf_conntrack_max=%d", what, t.Entries, max(more, 0), t.Max, 2*all), short
}
