// SPDX-License-Identifier: Apache-2.0

package netlab

import "testing"

func TestBuildAndClose(t *testing.T) {
	l := ForTest(t, Options{DMZ: true})
	if got := len(Names()); got < 6 {
		t.Errorf("namespaces %v", Names())
	}
	for _, r := range l.Routers() {
		if v, err := r.NS.ReadSysctl("net/netfilter/nf_conntrack_tcp_loose"); err != nil || v != "1" {
			t.Errorf("%s: tcp_loose %q, %v", r.Name, v, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range Names() {
		if isRole(n, l.Prefix) {
			t.Errorf("%s is left", n)
		}
	}
}
