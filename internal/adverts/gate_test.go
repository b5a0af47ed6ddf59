// SPDX-License-Identifier: Apache-2.0

package adverts

import "testing"

// Every transition of the handshake; a row applies one input to the state
// that the rows before it left.
func TestGateTable(t *testing.T) {
	type row struct {
		name string
		in   func(*gate) gateDo
		do   gateDo
		to   gateState
	}
	promote := func(now int64) func(*gate) gateDo { return func(g *gate) gateDo { return g.promote(now) } }
	demote := func(now int64) func(*gate) gateDo { return func(g *gate) gateDo { return g.demote(now) } }
	tick := func(now int64) func(*gate) gateDo { return func(g *gate) gateDo { return g.tick(now) } }
	fenced := func(term uint32) func(*gate) gateDo { return func(g *gate) gateDo { return g.fenced(term) } }
	released := func(term uint32) func(*gate) gateDo { return func(g *gate) gateDo { return g.released(term) } }
	installed := func(term uint32) func(*gate) gateDo { return func(g *gate) gateDo { return g.installed(term) } }
	removed := func(term uint32) func(*gate) gateDo { return func(g *gate) gateDo { return g.removed(term) } }
	abandon := (*gate).abandon
	for name, rows := range map[string][]row{
		"in and out": {
			{"answers before any question", fenced(0), 0, gateOut},
			{"promote", promote(0), doTellPromoting, gateFence},
			{"release is no fence", released(1), 0, gateFence},
			{"fenced of another term", fenced(2), 0, gateFence},
			{"not yet late", tick(199), 0, gateFence},
			{"fenced", fenced(1), doInstall, gateIn},
			{"fenced again", fenced(1), 0, gateIn},
			{"no deadline left", tick(1000), 0, gateIn},
			{"installed", installed(1), doTellIn, gateIn},
			{"demote", demote(1000), doTellDemoting, gateRelease},
			{"late report", installed(1), 0, gateRelease},
			{"released of another term", released(0), 0, gateRelease},
			{"released", released(1), doRemove, gateLeaving},
			{"removed", removed(1), doTellOut, gateOut},
			{"removed again", removed(1), 0, gateOut},
		},
		"no fence": {
			{"promote", promote(0), doTellPromoting, gateFence},
			{"late", tick(200), doRefuse, gateFence},
			{"once", tick(201), 0, gateFence},
			{"demote", demote(201), doTellDemoting | doTellOut, gateOut},
			{"too late", fenced(1), 0, gateOut},
		},
		"no release": {
			{"promote", promote(0), doTellPromoting, gateFence},
			{"fenced", fenced(1), doInstall, gateIn},
			{"demote", demote(10), doTellDemoting, gateRelease},
			{"not yet", tick(109), 0, gateRelease},
			{"late", tick(110), doRemove, gateLeaving},
			{"released after all", released(1), 0, gateLeaving},
		},
		"back before release": {
			{"promote", promote(0), doTellPromoting, gateFence},
			{"fenced", fenced(1), doInstall, gateIn},
			{"demote", demote(10), doTellDemoting, gateRelease},
			{"promote", promote(20), doTellPromoting, gateFence},
			{"old release", released(1), 0, gateFence},
			{"old fence", fenced(1), 0, gateFence},
			{"lost again, addresses still in", demote(30), doTellDemoting, gateRelease},
			{"released", released(2), doRemove, gateLeaving},
			{"back while they leave", promote(40), doTellPromoting, gateFence},
			{"their end is not ours", removed(2), 0, gateFence},
			{"fenced", fenced(3), doInstall, gateIn},
		},
		"no daemon": {
			{"promote", promote(0), doTellPromoting, gateFence},
			{"fenced", fenced(1), doInstall, gateIn},
			{"still Active", abandon, 0, gateIn},
			{"demote", demote(10), doTellDemoting, gateRelease},
			{"nobody to ask", abandon, doRemove, gateLeaving},
			{"once", abandon, 0, gateLeaving},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := gate{gateTimeout: 200, releaseTimeout: 100}
			for _, r := range rows {
				if do := r.in(&g); do != r.do || g.state != r.to {
					t.Fatalf("%s: do %b, state %d; want %b, %d", r.name, do, g.state, r.do, r.to)
				}
			}
		})
	}
}
