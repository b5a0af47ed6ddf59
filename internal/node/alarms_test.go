// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
)

// A condition is an alarm when it held at two looks, since the first of them,
// and its begin and end are told once.
func TestWatch(t *testing.T) {
	d := &daemon{stream: event.New(16), log: slog.New(slog.DiscardHandler)}
	w := newWatch(&backend{d: d})
	start := time.Unix(1000, 0)
	silent := []control.Alarm{{Kind: "link-silent", About: "eth2", Text: "nothing"}}
	for i, step := range []struct {
		found  []control.Alarm
		alarms int
	}{{nil, 0}, {silent, 0}, {nil, 0}, {silent, 0}, {silent, 1}, {silent, 1}, {nil, 0}} {
		w.look(step.found, start.Add(time.Duration(i)*time.Second))
		got := w.alarms()
		if len(got) != step.alarms {
			t.Fatalf("look %d: %d alarms, want %d", i, len(got), step.alarms)
		}
		if len(got) == 1 && !got[0].Since.Equal(start.Add(3*time.Second)) {
			t.Errorf("look %d: since %v, want the first look of this spell", i, got[0].Since)
		}
	}
	var texts []string
	for _, e := range d.stream.History(0) {
		texts = append(texts, e.Text)
	}
	if len(texts) != 2 || texts[0] != "nothing" || texts[1] != "over: nothing" {
		t.Errorf("told %q, want begin and end", texts)
	}
}

func TestTwoActives(t *testing.T) {
	for _, tt := range []struct {
		peer control.SyncPeer
		want int
	}{
		{control.SyncPeer{Heard: true, Role: control.RoleBackup}, 0},
		{control.SyncPeer{Heard: false, Role: control.RoleActive}, 0},
		{control.SyncPeer{Heard: true, Role: control.RoleActive}, 1},
	} {
		if got := twoActives(&control.SyncStatus{Peers: []control.SyncPeer{tt.peer}}, []string{"eth0"}); len(got) != tt.want {
			t.Errorf("%+v: %d alarms, want %d", tt.peer, len(got), tt.want)
		}
	}
}

func TestPasses(t *testing.T) {
	mine := map[string]bool{"192.168.255.1": true, "203.0.113.1": true}
	own := func(a netip.Addr) bool { return mine[a.String()] }
	for _, tt := range []struct {
		name                       string
		origSrc, origDst, replySrc string
		want                       bool
	}{
		{"plain", "10.0.0.10", "198.51.100.7", "198.51.100.7", true},
		{"addressed to the virtual address, translated", "198.51.100.7", "203.0.113.1", "10.0.0.10", true},
		{"ends in the virtual address", "198.51.100.7", "203.0.113.1", "203.0.113.1", false},
		{"the sync link, from here", "192.168.255.1", "192.168.255.2", "192.168.255.2", false},
		{"the sync link, from the peer", "192.168.255.2", "192.168.255.1", "192.168.255.1", false},
		{"adverts of the peer", "10.0.0.2", "224.0.0.18", "224.0.0.18", false},
	} {
		f := conntrack.Flow{Family: conntrack.IPv4}
		f.Orig.Src, f.Orig.Dst = addr(tt.origSrc), addr(tt.origDst)
		f.Reply.Src, f.Reply.Dst = addr(tt.replySrc), f.Orig.Src
		if got := passes(&f, own); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func addr(s string) conntrack.Addr { return conntrack.AddrFrom(netip.MustParseAddr(s)) }
