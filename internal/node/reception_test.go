// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
)

// ways is an advertRing: way and reason by interface.
type ways map[string][2]string

func (w ways) Way(iface string) (way, why string) { return w[iface][0], w[iface][1] }

// What is shown of the ways that adverts are taken by, and the alarms where XDP
// was asked for.
func TestReception(t *testing.T) {
	xdp, tc := [2]string{"xdp (native)"}, [2]string{"tc", "a foreign program is there"}
	alarm := func(iface, way, why string) control.Alarm {
		return control.Alarm{Kind: "advert-xdp", About: iface, Text: "adverts are taken by " + way + ", not by XDP as capture.advert asks for: " + why}
	}
	for _, tt := range []struct {
		name   string
		begin  func(r *reception)
		sum    string
		alarms []control.Alarm
	}{
		{"not begun", func(r *reception) { r.by(ways{"eth0": xdp}) }, "nothing yet", nil},
		{"never asked for", func(r *reception) { r.begun(false) }, "socket", []control.Alarm{alarm("eth0", "socket", ""), alarm("eth1", "socket", "")}},
		{"no ring", func(r *reception) { r.bySocket(errors.New("no BPF")); r.begun(false) }, "socket",
			[]control.Alarm{alarm("eth0", "socket", "no BPF"), alarm("eth1", "socket", "no BPF")}},
		{"a ring that is not read", func(r *reception) { r.by(ways{"eth0": xdp}); r.begun(false) }, "socket",
			[]control.Alarm{alarm("eth0", "socket", "the adverts process cannot read the ring"), alarm("eth1", "socket", "the adverts process cannot read the ring")}},
		{"all by XDP", func(r *reception) { r.by(ways{"eth0": xdp, "eth1": {"xdp (native)"}}); r.begun(true) }, "xdp (native)", nil},
		{"generic is XDP, too", func(r *reception) { r.by(ways{"eth0": {"xdp (generic)", "no driver"}, "eth1": xdp}); r.begun(true) },
			"xdp (generic) on eth0; xdp (native) on eth1", nil},
		{"one by TC", func(r *reception) { r.by(ways{"eth0": xdp, "eth1": tc}); r.begun(true) }, "xdp (native) on eth0; tc on eth1",
			[]control.Alarm{alarm("eth1", "tc", "a foreign program is there")}},
		{"one is not there", func(r *reception) { r.by(ways{"eth0": xdp}); r.begun(true) }, "xdp (native)", nil},
	} {
		var r reception
		tt.begin(&r)
		if got := r.sum([]string{"eth0", "eth1"}); got != tt.sum {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.sum)
		}
		if d := cmp.Diff(tt.alarms, r.lower([]string{"eth0", "eth1"})); d != "" {
			t.Errorf("%s: alarms (-want +got):\n%s", tt.name, d)
		}
	}
}
