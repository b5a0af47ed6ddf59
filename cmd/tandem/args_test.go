// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

func TestOptionsFirst(t *testing.T) {
	for _, c := range []struct{ words, want string }{
		{"", ""},
		{"status", "status"},
		{"vrrp detail LAN -j", "vrrp detail -j LAN"},
		{"vrrp detail LAN --socket S -j", "vrrp detail --socket S -j LAN"},
		{"vrrp detail LAN --socket=S", "vrrp detail --socket=S LAN"},
		{"vrrp detail --socket S LAN", "vrrp detail --socket S LAN"},
		{"-j takeover show 3 --socket S", "-j takeover show --socket S 3"},
		{"takeover --reason show", "takeover --reason show"}, // a value, no command
		{"takeover show 3 --socket", "takeover show --socket 3"},
		{"import vyos - -j", "import vyos -j -"},
		{"import vyos -- -file -j", "import vyos -- -file -j"},
		{"import vyos a -- -b", "import vyos a -- -b"},
		{"vrrp nothing -j", "vrrp nothing -j"}, // so that the command is called unknown
		{"nothing -j", "nothing -j"},
		{"takeover --reason R -j", "takeover --reason R -j"}, // it has a command below it
		{"maintenance on --socket S", "maintenance on --socket S"},
		{"vrrp detail LAN --unknown", "vrrp detail --unknown LAN"},
		{"adverts a -b", "adverts a -b"}, // it reads its own
		{"status --socket", "status --socket"},
	} {
		got := optionsFirst(newApp(), append([]string{"tandem"}, strings.Fields(c.words)...))
		if strings.Join(got[1:], " ") != c.want {
			t.Errorf("%q: got %q, want %q", c.words, got[1:], c.want)
		}
	}
}
