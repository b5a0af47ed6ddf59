// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"testing"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
)

// said is a replica that keeps what the machine says of this node.
type said struct {
	takeover.Replica
	states []takeover.State
}

func (s *said) SetState(st takeover.State) { s.states = append(s.states, st) }

// earlyPeer is a sync link that hears a peer give the role up before the capture
// has read the kernel table, so that there is no adverts process yet.
type earlyPeer struct {
	runner *takeover.Runner
	done   func()
}

func (p *earlyPeer) String() string { return "early peer" }

// Ready is never: what waits for it never begins.
func (p *earlyPeer) Ready() <-chan struct{} { return nil }

func (p *earlyPeer) Run(context.Context) error {
	p.runner.Post(takeover.Event{Kind: takeover.EvPeerUp, Peer: 1, Name: "r1"})
	p.runner.Post(takeover.Event{Kind: takeover.EvPeerState, Peer: 1, State: takeover.State{Role: takeover.RoleActive}})
	p.runner.Post(takeover.Event{Kind: takeover.EvPeerState, Peer: 1, State: takeover.State{Role: takeover.RoleBackup}})
	// The last one: the command is answered once all before it were taken.
	_, _ = p.runner.Switchover(context.Background(), "nobody", false)
	p.done()
	return nil
}

// TestPeersAreHeardBeforeTheElectionBegins: until there is an adverts process the
// machine gives it no order, and peers are told that this node cannot take over.
func TestPeersAreHeardBeforeTheElectionBegins(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	d := &daemon{cfg: &config.Config{}, log: log, stream: event.New(16)}
	d.election = newElection("MAIN", d.stream, log)
	d.elector = d.election
	replica := &said{}
	runner := takeover.NewRunner(takeover.Config{Set: "MAIN", Epoch: func() uint32 { return 1 }, Now: monotonic, Election: d.elector,
		Replica: replica, Note: func(string) {}, Log: log})
	d.election.runner = runner
	d.tasks = []task{runner, &earlyPeer{runner, cancel}}
	if err := d.run(ctx, func() { t.Error("it is ready") }); err != nil {
		t.Error(err)
	}
	if len(replica.states) == 0 {
		t.Fatal("nothing was said to peers")
	}
	for _, s := range replica.states {
		if !s.Fault {
			t.Errorf("it says %+v, want it in fault", s)
		}
	}
}
