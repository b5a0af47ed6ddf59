// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/internal/track"
	"github.com/tandem-ha/tandem/internal/vip"
	"github.com/tandem-ha/tandem/vrrp"
)

// election joins the advert process to the takeover machine. The set that the
// replication follows is gated by the machine; every other set is let through
// at once.
type election struct {
	followed string // "" when nothing is replicated
	runner   *takeover.Runner
	stream   *event.Stream
	log      *slog.Logger

	proc *adverts.Process

	mu     sync.Mutex
	term   map[string]uint32 // of the latest promotion, by set
	gone   map[string]uint64 // times that Active was left, by set
	sets   map[string]*control.Set
	spoke  map[string]bool // of these sets a role was told
	alarms map[string]control.Alarm
	health string    // why the child runs without real time, "" when it does
	aside  time.Time // maintenance, since then; zero: none

	ending  map[string]bool // sets that a reload ends; true: their stop was told
	settled chan struct{}   // one of them has ended
	over    chan struct{}   // closed when the child is gone

	reception  reception // has its own lock
	stopping   atomic.Bool
	priorities func() map[string]int // in force, by group
}

func newElection(followed string, stream *event.Stream, log *slog.Logger) *election {
	return &election{followed: followed, stream: stream, log: log, term: map[string]uint32{}, gone: map[string]uint64{},
		sets: map[string]*control.Set{}, spoke: map[string]bool{}, alarms: map[string]control.Alarm{}, priorities: func() map[string]int { return nil },
		ending: map[string]bool{}, settled: make(chan struct{}, 1), over: make(chan struct{})}
}

func (e *election) String() string { return "election" }

// Fenced, Released, TakeOver, HandOver, Announce and Stop are takeover.Election.
func (e *election) Fenced(set string)   { e.proc.Fenced(set, e.termOf(set)) }
func (e *election) Released(set string) { e.proc.Released(set, e.termOf(set)) }
func (e *election) HandOver(set string) { e.proc.HandOver(set) }
func (e *election) Announce(set string) { e.proc.Announce(set) }
func (e *election) TakeOver(set string, fenced int64) {
	e.proc.TakeOver(set, fenced)
}

// Stop ends the child in good order; Run sees its end.
func (e *election) Stop() { go e.proc.Stop() }

func (e *election) termOf(set string) uint32 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.term[set]
}

// Run takes what the child says until it ends, which is nil after a stop.
func (e *election) Run(context.Context) error {
	defer close(e.over)
	for ev := range e.proc.Events() {
		if x, ok := ev.(adverts.Exited); ok {
			return e.exited(x.Err)
		}
		e.take(ev)
	}
	return nil
}

// exited takes away what a child left that did not end in good order: it can no
// longer do so itself, and until the addresses' lifetime is over two routers
// would answer for them.
func (e *election) exited(why error) error {
	if why == nil {
		return nil
	}
	if _, err := vip.Cleanup(); err != nil {
		e.log.Warn("addresses of the adverts process stay until their lifetime ends", "error", err)
	}
	return why
}

// take must not block for long: the gates of a takeover come through here.
func (e *election) take(ev adverts.Event) {
	switch v := ev.(type) {
	case adverts.Ready:
		e.ready(v)
	case adverts.Promoting:
		e.setTerm(v.Set, v.Term)
		e.gate(v.Set, func() { e.runner.Promoting(cause(v), v.At, v.Silence) }, e.Fenced)
		e.reason(v.Set, cause(v))
	case adverts.AddressesIn:
		e.forward(v.Set, takeover.Event{Kind: takeover.EvAddressesIn, At: v.At})
		e.addresses(v.Set, "virtual addresses are in", true)
	case adverts.Demoting:
		e.setTerm(v.Set, v.Term)
		e.gate(v.Set, func() {
			e.forward(v.Set, takeover.Event{Kind: takeover.EvDemoting, Cause: e.left(v), On: outranked(v)})
		}, e.Released)
		if v.Cause != vrrp.CauseInterfaceDown && v.Cause != vrrp.CauseUnwell { // Changed has said which
			e.reason(v.Set, e.left(v))
		}
		e.count(v.Set)
	case adverts.AddressesOut:
		e.forward(v.Set, takeover.Event{Kind: takeover.EvAddressesOut})
		e.addresses(v.Set, "virtual addresses are out", false)
	case adverts.Changed:
		e.changed(v)
	case adverts.WouldPreempt:
		e.wouldPreempt(v)
	case adverts.Alarm:
		e.alarm(v)
	case adverts.Rival:
		e.gate(v.Set, func() { e.forward(v.Set, takeover.Event{Kind: takeover.EvRival}) }, e.Announce)
	case adverts.Ended:
		e.ended(v)
	case adverts.Refused:
		e.log.Warn("election refused a command", "set", v.Set, "command", v.What)
		e.forward(v.Set, takeover.Event{Kind: takeover.EvRefused})
	}
}

// gate hands an event to the machine, which answers the child; a set that the
// replication does not follow is answered at once.
func (e *election) gate(set string, machine func(), answer func(string)) {
	if set == e.followed && e.runner != nil {
		machine()
		return
	}
	answer(set)
}

func (e *election) forward(set string, ev takeover.Event) {
	if set == e.followed && e.runner != nil {
		e.runner.Post(ev)
	}
}

func (e *election) setTerm(set string, term uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.term[set] = term
}

func (e *election) count(set string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone[set]++
}

func (e *election) released(set string) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gone[set]
}

func (e *election) ready(v adverts.Ready) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.health = v.RealTime
	e.reception.begun(v.Ring)
	if v.RealTime != "" {
		e.log.Warn("adverts run without real time", "reason", v.RealTime)
	}
}

func (e *election) set(name string) *control.Set {
	s := e.sets[name]
	if s == nil {
		s = &control.Set{Name: name, Role: control.RoleInitialize, Since: time.Now()}
		e.sets[name] = s
	}
	return s
}

func (e *election) changed(v adverts.Changed) {
	e.mu.Lock()
	if _, ending := e.ending[v.Set]; ending && v.To == vrrp.Initialize {
		e.ending[v.Set], v.Reason = true, reloaded
	}
	s := e.set(v.Set)
	e.spoke[v.Set] = true
	s.Role, s.Since, s.Reason = v.To.String(), time.Now(), v.Reason
	if v.From == vrrp.Initialize && v.To == vrrp.Backup {
		s.Reason = "started, or a fault is over"
	}
	if v.To != vrrp.Backup {
		s.Waiting = ""
	}
	e.mu.Unlock()
	text := v.From.String() + " to " + v.To.String()
	if v.Reason != "" {
		text += ": " + v.Reason
	}
	e.forward(v.Set, takeover.Event{Kind: takeover.EvFault, On: v.To == vrrp.Initialize || !e.asideSince().IsZero()})
	e.role(v, text)
	e.log.Info("role", "set", v.Set, "change", text)
}

func (e *election) role(v adverts.Changed, text string) {
	e.stream.Publish(event.Event{Kind: event.Role, Subject: v.Set, Text: text, Data: event.RoleData{From: v.From.String(), To: v.To.String(),
		Reason: v.Reason, Stopped: v.To == vrrp.Initialize && (e.stopping.Load() || v.Reason == reloaded), Priority: e.priorities()}})
}

// standing keeps the reason of a fault that lasts, which may become another one,
// and tells of a set that is in fault from the start: the child tells changes.
// A check that is about to answer is none.
func (e *election) standing(g *adverts.GroupStatus) {
	if !g.Fault || strings.HasSuffix(g.Reason, track.Unanswered) {
		return
	}
	why := g.Name + ": " + g.Reason
	e.mu.Lock()
	s := e.set(g.Set)
	first := !e.spoke[g.Set]
	e.spoke[g.Set] = true
	if s.Role == control.RoleInitialize {
		s.Reason = why
	}
	e.mu.Unlock()
	if first {
		e.role(adverts.Changed{Set: g.Set, Reason: why}, "Initialize: "+why)
	}
}

func (e *election) reason(set, why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set(set).Reason = why
}

// wouldPreempt: the followed set preempts by a hand-over only; the permission
// of the child is one for all sets, so any other set gets its word from here.
func (e *election) wouldPreempt(v adverts.WouldPreempt) {
	if v.Set != e.followed || e.runner == nil {
		if v.On {
			e.TakeOver(v.Set, adverts.Ungated)
		}
		return
	}
	e.runner.Post(takeover.Event{Kind: takeover.EvPreemptDue, On: v.On})
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.set(v.Set)
	s.Waiting = ""
	if v.On {
		s.Waiting = "it outranks the Active and waits for a complete view and the hand-over"
	}
}

func (e *election) alarm(v adverts.Alarm) {
	about := v.Group
	if v.Kind == adverts.AlarmDoubt {
		about = v.Set
	}
	key := v.Kind.String() + " " + about
	e.mu.Lock()
	if v.On {
		e.alarms[key] = control.Alarm{Since: time.Now(), Kind: v.Kind.String(), Text: v.Text, About: about}
	} else {
		delete(e.alarms, key)
	}
	e.mu.Unlock()
	text := v.Text
	if !v.On {
		text = "over: " + text
	}
	e.publish(event.Alarm, about, text)
	e.log.Warn("alarm", "kind", v.Kind.String(), "about", about, "on", v.On, "text", v.Text)
}

// addresses tells that all addresses of a set went in or out.
func (e *election) addresses(set, text string, in bool) {
	e.stream.Publish(event.Event{Kind: event.Address, Subject: set, Text: text, Data: event.AddressData{In: in}})
}

func (e *election) publish(k event.Kind, subject, text string) {
	e.stream.Publish(event.Event{Kind: k, Subject: subject, Text: text})
}

// cause says why a set became Active, as a sentence.
func cause(v adverts.Promoting) string {
	switch v.Cause {
	case vrrp.CauseTimeout:
		if v.Silence == 0 {
			return "no Active was heard"
		}
		return fmt.Sprintf("the Active was silent for %d ms", v.Silence.Round(time.Millisecond).Milliseconds())
	case vrrp.CausePriorityZero:
		return "the Active released the role with priority 0"
	case vrrp.CauseHandedOver:
		return "the role was handed over by the peer"
	case vrrp.CauseOwner:
		return "it owns the addresses (priority 255)"
	}
	return v.Cause.String()
}

// outranked says whether a set left Active because another router is.
func outranked(v adverts.Demoting) bool {
	return v.Cause == vrrp.CauseHigherPriority || v.Cause == vrrp.CauseOverslept
}

// left says why a set is no longer Active, as a sentence.
func (e *election) left(v adverts.Demoting) string {
	e.mu.Lock()
	_, ending := e.ending[v.Set]
	e.mu.Unlock()
	if ending && v.Cause == vrrp.CauseShutdown {
		return reloaded
	}
	switch v.Cause {
	case vrrp.CauseHigherPriority:
		return "a router of higher priority is Active"
	case vrrp.CauseInterfaceDown:
		return "an interface of the set went down"
	case vrrp.CauseUnwell:
		return "something that the set tracks went down"
	case vrrp.CauseMaintenance:
		return "maintenance: set aside by the operator"
	case vrrp.CauseHandedOver:
		return "the role was handed over to the peer"
	case vrrp.CauseShutdown:
		return "stopped by the operator"
	case vrrp.CauseOverslept:
		return "it slept longer than its peers wait, and another router was Active when it woke"
	case vrrp.CauseRefused:
		return "the daemon did not raise the fence in time"
	}
	return v.Cause.String()
}
