// SPDX-License-Identifier: Apache-2.0

package adverts

// gate is the handshake between a set's role and its addresses.
//
//	        promote            fenced              demote
//	out ------------> fence ------------> in ----------------> release
//	 ^                  | no answer:                             | released,
//	 |                  v refuse                                 v or timeout
//	 +------------- (demote)             out <---- removed ---- leaving
//
// A promotion is legal in every state: a set that comes back while its
// addresses are still in, or on their way out, asks for the fence again under
// a new term; whatever answers the old one no longer counts.
type gate struct {
	gateTimeout, releaseTimeout int64 // ns

	state    gateState
	term     uint32
	deadline int64 // of fence and release, 0 none
	present  bool  // addresses were ordered in and not yet out
}

type gateState uint8

const (
	gateOut gateState = iota
	gateFence
	gateIn
	gateRelease
	gateLeaving
)

// gateDo is a set of things to do, in the order of its bits.
type gateDo uint8

const (
	doTellPromoting gateDo = 1 << iota
	doTellDemoting
	doRefuse  // take the promotion back: Set.Refuse
	doInstall // order the addresses in, and announce them
	doRemove  // order the addresses out
	doTellIn
	doTellOut
)

func (g *gate) promote(now int64) gateDo {
	g.term++
	g.state, g.deadline = gateFence, now+g.gateTimeout
	return doTellPromoting
}

func (g *gate) demote(now int64) gateDo {
	if !g.present {
		g.state, g.deadline = gateOut, 0
		return doTellDemoting | doTellOut
	}
	g.state, g.deadline = gateRelease, now+g.releaseTimeout
	return doTellDemoting
}

func (g *gate) fenced(term uint32) gateDo {
	if g.state != gateFence || term != g.term {
		return 0
	}
	g.state, g.deadline, g.present = gateIn, 0, true
	return doInstall
}

func (g *gate) released(term uint32) gateDo {
	if g.state != gateRelease || term != g.term {
		return 0
	}
	return g.leave()
}

func (g *gate) leave() gateDo {
	g.state, g.deadline, g.present = gateLeaving, 0, false
	return doRemove
}

func (g *gate) tick(now int64) gateDo {
	if g.deadline == 0 || now < g.deadline {
		return 0
	}
	g.deadline = 0
	switch g.state {
	case gateFence:
		return doRefuse
	case gateRelease:
		return g.leave()
	}
	return 0
}

// installed and removed report that an order of a term was carried out.
func (g *gate) installed(term uint32) gateDo {
	if g.state != gateIn || term != g.term {
		return 0
	}
	return doTellIn
}

func (g *gate) removed(term uint32) gateDo {
	if term != g.term || g.state != gateLeaving {
		return 0
	}
	g.state = gateOut
	return doTellOut
}

// abandon is for a daemon that is gone: nobody is asked any more.
func (g *gate) abandon() gateDo {
	if g.state == gateRelease || (g.present && g.state != gateIn) {
		return g.leave()
	}
	return 0
}

// idle: nothing of this set is left to be done.
func (g *gate) idle() bool { return g.state == gateOut }
