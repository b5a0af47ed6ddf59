// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// joinFlows is how many flows join; `make proof` says 100,000.
var joinFlows = flag.Int("join.flows", 10_000, "flows of the join in which daemons are killed")

// TestKillInJoin: kill -9 of the one that receives, and then of the one that
// sends, when about a third of a join is over. In the end both hold the same, and
// nobody who speaks notices.
func TestKillInJoin(t *testing.T) {
	flows := *joinFlows
	third := flows / 200 // datagrams, of 60 flows each
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: commitSoon})}
	r1, r2 := s.Lab.R1, s.Lab.R2
	s.watch()
	relay := s.relay()
	s.gatherOf(load.CrowdConfig{UDPSNAT: flows / 2, TCPSNAT: flows * 3 / 10, UDPDNAT: flows / 10, TCPDNAT: flows / 10, Rate: crowdRate})
	s.same(r1, flows, 40*time.Second)

	// join has r2 begin anew, and stops the link in the middle.
	join := func() {
		t.Helper()
		if err := s.Stop(r2); err != nil {
			t.Error(err)
		}
		cut := relay.PartAfter(r1, third)
		start(t, s.Pair, r2)
		select {
		case <-cut:
		case <-time.After(answerLimit):
			t.Fatalf("no join within %v", answerLimit)
		}
		peer := s.status(r2).Sync.Peers[0]
		for began := time.Now(); peer.View < flows/20 && time.Since(began) < answerLimit; { // it reads what the relay let through
			peer = s.status(r2).Sync.Peers[0]
		}
		t.Logf("in the middle: r2 has heard of %d flows, complete: %t", peer.View, peer.Complete)
		if peer.Complete || peer.View < flows/20 || peer.View > flows*9/10 {
			t.Fatal("this is not the middle of a join")
		}
	}

	join()
	sigkill(t, s.Process(r2).Process.Pid)
	<-s.Process(r2).Done()
	relay.Heal()
	start(t, s.Pair, r2)
	s.become(r2, control.RoleBackup, 20*time.Second)
	s.same(r1, flows, 40*time.Second)

	join()
	s.before = s.wire.Stats()
	sigkill(t, s.Process(r1).Process.Pid)
	relay.Heal()
	s.become(r2, control.RoleActive, 10*time.Second)
	s.speak("the sender was killed")
	<-s.Process(r1).Done()
	start(t, s.Pair, r1)
	s.become(r1, control.RoleActive, 30*time.Second)
	s.speak("the sender is back")
	s.quiet("the sender was killed and is back")
	s.same(r1, flows, 40*time.Second)
	s.takeover(flows)
}

// TestRestartKeepsTheCopy: the Active's daemon is killed and starts again while
// the Backup cannot take over (one of its interfaces is down). Until the new
// daemon has read its kernel table it has no flows to tell; what the Backup has
// of them must not go for that, not for a moment.
func TestRestartKeepsTheCopy(t *testing.T) {
	const flows = 10_000
	s := &scene{t: t, Pair: drill.ForTest(t, netlab.Options{}, drill.PairOptions{Edit: commitSoon})}
	r1, r2 := s.Lab.R1, s.Lab.R2
	s.watch()
	s.gather(flows)
	s.same(r1, flows, 40*time.Second)
	if _, err := r2.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	s.before = s.wire.Stats()
	sigkill(t, s.Process(r1).Process.Pid)
	<-s.Process(r1).Done()
	start(t, s.Pair, r1)
	fewest := flows
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		fewest = min(fewest, int(s.status(r2).Table.Entries))
	}
	t.Logf("r2 had %d entries at the fewest", fewest)
	if fewest < flows {
		t.Errorf("r2 had only %d of %d entries for a while", fewest, flows)
	}
	s.become(r1, control.RoleActive, 20*time.Second)
	s.speak("the Active's daemon began anew")
	s.quiet("the Active's daemon began anew")
	if err := r2.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := s.AwaitReady(t.Context(), r1, 30*time.Second); err != nil {
		t.Fatal(err)
	}
	s.same(r1, flows, 40*time.Second)
	s.takeover(flows)
}
