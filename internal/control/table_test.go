// SPDX-License-Identifier: Apache-2.0

package control

import "testing"

func TestRoom(t *testing.T) {
	for _, tt := range []struct {
		entries, max uint32
		more         int
		short        bool
		want         string
	}{
		{0, 100, 0, false, ""},
		{30, 100, 50, false, ""},
		{30, 100, -7, false, ""},
		{31, 100, 50, false, "the kernel table is nearly full: 31 entries and 50 more in the copy of the peers' flows, nf_conntrack_max = 100: raise it with sysctl -w net.netfilter.nf_conntrack_max=162"},
		{30, 100, 71, true, "the kernel table is too small: 30 entries and 71 more in the copy of the peers' flows, nf_conntrack_max = 100: raise it with sysctl -w net.netfilter.nf_conntrack_max=202"},
	} {
		got, short := KernelTable{Entries: tt.entries, Max: tt.max}.Room(tt.more)
		if got != tt.want || short != tt.short {
			t.Errorf("%d + %d of %d: got %q, %v; want %q, %v", tt.entries, tt.more, tt.max, got, short, tt.want, tt.short)
		}
	}
}
