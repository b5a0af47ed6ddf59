// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/tandem-ha/tandem/internal/mutant"
)

// Election is what the runner needs of the advert process: the gates, and the
// two commands of a hand-over.
type Election interface {
	Fenced(set string)
	Released(set string)
	TakeOver(set string, fenced int64) // fenced: until when the fence stands already
	HandOver(set string)
	Announce(set string)
	Stop() // returns at once
}

// Fence drops what the kernel table does not know (loader.Fence).
type Fence interface {
	Up(d time.Duration)
	Renew(d time.Duration)
	Down()
}

// Replica is what the runner needs of the replication machine, beside Views.
type Replica interface {
	SetActive(on bool)
	SetState(s State)
	Release()
	Forget()
	Reclaim(peer PeerID)
	DropReleased()
	Bequeath(peer PeerID)
	Stale() bool // entries of the kernel table have windows of a former term
}

// Record is the timeline of one takeover; times are nanoseconds of
// CLOCK_MONOTONIC, 0 when the step was not reached (yet).
type Record struct {
	Cause       string        `json:"cause"`
	Wall        time.Time     `json:"at"`
	Silence     time.Duration `json:"silence_ns"` // since the last advert, when the cause is a timeout
	Decided     int64         `json:"decided"`
	FenceUp     int64         `json:"fence_up"`
	AddressesIn int64         `json:"addresses_in"`
	Committed   int64         `json:"committed"`
	FenceDown   int64         `json:"fence_down"`
	Flows       uint64        `json:"flows"`              // committed between fence up and fence down
	Evidence    []string      `json:"evidence,omitempty"` // see Config.Evidence
}

// Config is what a Runner is made of.
type Config struct {
	Name      string // of this node
	Set       string // the set of groups that the replication follows
	External  bool   // another election decides, by Takeover and Yield
	Timing    Timing
	Epoch     func() uint32
	Now       func() int64 // CLOCK_MONOTONIC, nanoseconds
	Election  Election
	Fence     Fence
	Replica   Replica
	Committer *Committer
	Lenient   func(on bool)   // has the kernel pass TCP segments whatever their window
	Note      func(string)    // history and hooks
	Evidence  func() []string // what is known of the peers at a takeover, each a sentence; nil: nobody is asked
	Log       *slog.Logger
}

// history is how many takeovers are remembered.
const history = 32

// Runner carries out what the machine decides. Run and the committer's Run are
// the only goroutines; everything else talks to it by Post.
type Runner struct {
	cfg     Config
	machine *Machine
	events  chan Event

	mu      sync.Mutex // guards what Status reads, and the commands
	role    string
	since   time.Time
	phase   Phase
	peers   map[PeerID]State
	records []Record
	yields  []Yield
	fence   bool
	up      standing
	lenient bool // the runner's own
	before  uint64
	held    string
	orders  uint32
	waiters map[uint32]*waiter
}

// standing is since when the fence stands, and until when it does without
// another word; nanoseconds of CLOCK_MONOTONIC.
type standing struct{ from, until int64 }

// NewRunner makes a runner of a Backup. Config.Committer may be set until Run.
func NewRunner(cfg Config) *Runner {
	m := NewMachine(cfg.Timing, cfg.Epoch)
	m.name, m.external = cfg.Name, cfg.External
	return &Runner{cfg: cfg, machine: m, events: make(chan Event, 256),
		role: "Backup", since: time.Now(), peers: map[PeerID]State{}, waiters: map[uint32]*waiter{}}
}

func (r *Runner) String() string { return "takeover" }

// SetCommitter completes the circle: the committer reports to the runner.
func (r *Runner) SetCommitter(c *Committer) { r.cfg.Committer = c }

// Post hands an event to the machine. It blocks only while 256 others wait.
func (r *Runner) Post(ev Event) { r.events <- ev }

// Promoting is EvPromoting with what the history should know of it.
func (r *Runner) Promoting(cause string, decided int64, silence time.Duration) {
	r.record(cause, decided, silence)
	r.Post(Event{Kind: EvPromoting, Cause: cause})
	go r.testify(decided)
}

func (r *Runner) record(cause string, decided int64, silence time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := Record{Cause: cause, Wall: time.Now(), Decided: decided, Silence: silence}
	if r.up.until > decided { // the peer's word raised it
		rec.FenceUp, r.before = max(decided, r.up.from), r.committedSoFar()
	}
	r.records = append(r.records, rec)
	if len(r.records) > history {
		r.records = r.records[1:]
	}
}

// Run takes events until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	if r.cfg.External { // its addresses do not move at once: for a moment each router sees one direction
		r.cfg.Lenient(true)
		defer r.cfg.Lenient(false)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if d := r.machine.NextDeadline(); d != 0 {
			wait = max(0, time.Duration(d-r.cfg.Now()))
		}
		timer.Reset(wait)
		ev := Event{Kind: EvTick}
		select {
		case <-ctx.Done():
			return nil
		case ev = <-r.events:
		case <-timer.C:
		}
		r.step(ev)
	}
}

func (r *Runner) step(ev Event) {
	if ev.Kind == EvTakeover && !r.machine.Active() {
		r.record(ev.Cause, r.cfg.Now(), 0)
	}
	was := r.machine.Active()
	for _, a := range r.machine.Step(r.cfg.Now(), ev) {
		r.carryOut(a)
	}
	r.observe(was, ev)
}

func (r *Runner) carryOut(a Action) {
	switch a.Kind {
	case ActFenceUp:
		if mutant.AnnounceFirst {
			time.Sleep(mutant.NotifyTime)
		}
		began := r.cfg.Now()
		if !mutant.NoFence {
			r.cfg.Fence.Up(a.D)
		}
		r.fenceIsUp(began + int64(a.D))
	case ActFenceRenew:
		r.cfg.Fence.Renew(a.D)
	case ActFenceDown:
		r.cfg.Fence.Down()
		r.fenceIsDown()
	case ActSetActive:
		r.setLenient(a.On)
		r.cfg.Replica.SetActive(a.On)
		r.cfg.Committer.SetActive(a.On)
	case ActFenced:
		r.cfg.Election.Fenced(r.cfg.Set)
	case ActRelease:
		r.cfg.Replica.Release()
	case ActReleased:
		r.cfg.Election.Released(r.cfg.Set)
	case ActRush:
		r.cfg.Committer.Rush(a.On)
	case ActPause:
		r.cfg.Committer.Pause(a.D)
	case ActResume:
		r.cfg.Committer.Resume()
	case ActForget:
		r.cfg.Replica.Forget()
	case ActReclaim:
		r.cfg.Replica.Reclaim(a.Peer)
	case ActAnnounce:
		r.cfg.Election.Announce(r.cfg.Set)
	case ActAdopt:
		r.cfg.Committer.Adopt()
	case ActDropReleased:
		r.cfg.Replica.DropReleased()
	case ActBequeath:
		r.cfg.Replica.Bequeath(a.Peer)
	case ActTakeOver:
		r.cfg.Election.TakeOver(r.cfg.Set, r.up.until)
	case ActHandOver:
		r.cfg.Election.HandOver(r.cfg.Set)
	case ActStopElection:
		r.cfg.Election.Stop()
	case ActSetState:
		r.cfg.Replica.SetState(a.State)
	case ActNote:
		r.cfg.Log.Info(a.Note)
		r.cfg.Note(a.Note)
	case ActOutcome:
		r.answer(a)
	}
}

// observe keeps the timeline and what Status shows.
func (r *Runner) observe(was bool, ev Event) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.machine
	role := RoleBackup.String()
	if m.Active() {
		role = RoleActive.String()
	}
	if role != r.role {
		r.role, r.since = role, time.Now()
	}
	r.phase = m.hand.phase
	r.held = ""
	if m.held.on {
		r.held = m.peers[m.held.peer].name
	}
	r.watch(now)
	r.observeYield(was, ev, now)
	if ev.Kind == EvPeerState || ev.Kind == EvPeerDown {
		r.peers[ev.Peer] = m.peer(ev.Peer).state
	}
	if len(r.records) == 0 || !m.Active() {
		r.fence = false
		return
	}
	rec := &r.records[len(r.records)-1]
	mark := func(at *int64, is bool) {
		if is && *at == 0 {
			*at = now
		}
	}
	if ev.Kind == EvAddressesIn && ev.At != 0 {
		rec.AddressesIn = ev.At
	}
	mark(&rec.AddressesIn, ev.Kind == EvAddressesIn)
	mark(&rec.Committed, m.committed)
	if !m.fenced() && rec.FenceDown == 0 {
		rec.FenceDown, rec.Flows = now, r.committedSoFar()-r.before
	}
	r.fence = m.fenced()
}

// setLenient lasts for a term: what was passed unseen in it did not move the
// windows on, so that no later moment is better than its end. Beside another
// election it lasts for the whole run.
func (r *Runner) setLenient(on bool) {
	if r.cfg.External || on == r.lenient || on && !r.cfg.Replica.Stale() {
		return
	}
	r.lenient = on
	r.cfg.Lenient(on)
	if on {
		const note = "entries have TCP windows of a former term: windows are not judged until this one ends"
		r.cfg.Log.Info(note)
		r.cfg.Note(note)
	}
}

// fenceIsUp marks the moment in the record of a takeover; the fence of a yield
// finds it marked already. until: when it falls by itself.
func (r *Runner) fenceIsUp(until int64) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up.until < now {
		r.up.from = now
	}
	r.up.until = until
	if n := len(r.records); n > 0 && r.records[n-1].FenceUp == 0 {
		r.records[n-1].FenceUp = now
		r.before = r.committedSoFar()
	}
}

func (r *Runner) fenceIsDown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up = standing{}
}

func (r *Runner) committedSoFar() uint64 {
	s := r.cfg.Committer.Stats()
	return s.Created + s.Replaced
}

// Status is what can be seen of the runner from outside.
type Status struct {
	Role    string
	Since   time.Time
	Fenced  bool
	Phase   Phase            // of a hand-over
	Held    string           // the peer that a switchover gave the role to: no preemption
	Peers   map[PeerID]State // as last heard
	Records []Record         // oldest first
	Yields  []Yield          // the same
}

// Status reads it.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{Role: r.role, Since: r.since, Fenced: r.fence, Phase: r.phase, Held: r.held,
		Peers: maps.Clone(r.peers), Records: append([]Record(nil), r.records...), Yields: append([]Yield(nil), r.yields...)}
}
