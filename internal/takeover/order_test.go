// SPDX-License-Identifier: Apache-2.0

package takeover

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// world is everything around a runner: it writes down what it is told.
type world struct {
	mu     sync.Mutex
	said   []string
	stale  bool
	fenced int64 // as TakeOver was told
}

func (w *world) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, fmt.Sprintf(format, args...))
}

func (w *world) Fenced(string)         { w.say("fenced") }
func (w *world) Released(string)       { w.say("released") }
func (w *world) HandOver(string)       { w.say("hand over") }
func (w *world) Announce(string)       { w.say("announce") }
func (w *world) Stop()                 { w.say("stop") }
func (w *world) Up(d time.Duration)    { w.say("fence up %v", d) }
func (w *world) Renew(d time.Duration) { w.say("fence renew %v", d) }
func (w *world) Down()                 { w.say("fence down") }
func (w *world) SetActive(on bool)     { w.say("active %t", on) }
func (w *world) SetState(s State)      {}
func (w *world) Release()              { w.say("release") }
func (w *world) Forget()               { w.say("forget") }
func (w *world) Reclaim(PeerID)        { w.say("reclaim") }
func (w *world) DropReleased()         { w.say("drop released") }
func (w *world) Bequeath(PeerID)       { w.say("bequeath") }
func (w *world) Stale() bool           { return w.stale }
func (w *world) TakeOver(_ string, fenced int64) {
	w.fenced = fenced
	w.say("take over")
}
func (w *world) lenient(on bool) { w.say("lenient %t", on) }

// slowKernel takes 10 ms for a batch, and has every flow with an odd timeout.
type slowKernel struct{}

func (slowKernel) Apply(ops []conntrack.Op) error {
	time.Sleep(10 * time.Millisecond)
	for i := range ops {
		ops[i].Err = nil
		if ops[i].Kind == conntrack.OpCreate && ops[i].Flow.Timeout%2 == 1 {
			ops[i].Err = unix.EEXIST
		}
	}
	return nil
}

func (slowKernel) Delete(*conntrack.Key) error { return nil }

// half of what mixed has: three batches in all.
const half = batch + 50

// mixed is flows that the kernel table has, to be replaced, and as many that it
// lacks.
func mixed() []conntrack.Op {
	ops := make([]conntrack.Op, 2*half)
	for i := range ops {
		ops[i].Kind, ops[i].Flow.Timeout = conntrack.OpCreate, timeoutFloor
		if i%2 == 1 {
			ops[i].Kind, ops[i].Flow.Timeout = conntrack.OpReplace, timeoutFloor+1
		}
	}
	return ops
}

// running is a runner in a bubble of synctest, with mixed to commit.
func running(t *testing.T, external bool) (*Runner, *world, context.Context) {
	w := &world{}
	began := time.Now()
	r := NewRunner(Config{Name: "r1", External: external, Epoch: fixedEpoch, Now: func() int64 { return int64(time.Hour + time.Since(began)) },
		Election: w, Fence: w, Replica: w, Lenient: w.lenient, Note: func(string) {}, Log: slog.New(slog.DiscardHandler)})
	c := NewCommitter(&listViews{todo: mixed()}, slowKernel{}, false, 0, r.Post)
	r.SetCommitter(c)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.Run(ctx) })
	wg.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r, w, ctx
}

func steps(out Outcome) string {
	var names []string
	for _, s := range out.Steps {
		names = append(names, s.Name)
	}
	return strings.Join(names, ",")
}

// Another election's words return when they are carried out, and not before.
func TestOrdersOfAnotherElection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w, ctx := running(t, true)
		began := time.Now()
		out, err := r.Takeover(ctx, "keepalived")
		if err != nil || out.Active != "r1" || out.Already || steps(out) != "fence up,fence down" {
			t.Errorf("takeover: %+v, %v", out, err)
		}
		if took := time.Since(began); took < 30*time.Millisecond {
			t.Errorf("it returned after %v: three batches take 30 ms", took)
		}
		down, up := slices.Index(w.said, "fence down"), slices.Index(w.said, "fence up 500ms")
		if up < 0 || down < up || slices.Contains(w.said, "take over") {
			t.Errorf("done: %v", w.said)
		}
		if out, err = r.Takeover(ctx, "keepalived"); err != nil || !out.Already {
			t.Errorf("again: %+v, %v", out, err)
		}
		out, err = r.Yield(ctx, "keepalived")
		if err != nil || out.Already || steps(out) != "released" || !slices.Contains(w.said, "release") {
			t.Errorf("yield: %+v, %v; done: %v", out, err, w.said)
		}
		if st := r.Status(); st.Role != "Backup" || len(st.Records) != 1 || st.Records[0].Cause != "keepalived" || st.Records[0].FenceDown == 0 {
			t.Errorf("status: %+v", st)
		}
	})
}

// A node that resumes creates what its kernel table lacks, and displaces
// nothing of it; the next takeover does both.
func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w, ctx := running(t, true)
		out, err := r.Resume(ctx, "here all along")
		time.Sleep(time.Second)
		if s := r.cfg.Committer.Stats(); err != nil || out.Active != "r1" || s.Created != half || s.Clashes != 0 || s.Replaced != 0 || slices.Contains(w.said, "fence up 500ms") {
			t.Errorf("resume: %+v, %v, %+v; done: %v", out, err, s, w.said)
		}
		views := r.cfg.Committer.views.(*listViews)
		views.mu.Lock()
		for i := range views.done {
			if views.done[i].Err != nil {
				t.Errorf("flow %d, which is in the kernel table, is said to be not: %v", i, views.done[i].Err)
			}
		}
		views.mu.Unlock()
		_, err = r.Yield(ctx, "BACKUP")
		views.mu.Lock()
		views.todo = mixed()
		views.mu.Unlock()
		if _, err2 := r.Takeover(ctx, "MASTER"); err != nil || err2 != nil || r.cfg.Committer.Stats().Replaced != half {
			t.Errorf("afterwards: %v, %v, %+v", err, err2, r.cfg.Committer.Stats())
		}
	})
}

// Windows are not judged in a term that begins with stale ones, and only then.
func TestLenientWithStaleWindows(t *testing.T) {
	for _, stale := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, w, _ := running(t, false)
			w.stale = stale
			r.Promoting("the Active was silent", r.cfg.Now(), time.Second)
			r.Post(Event{Kind: EvAddressesIn})
			time.Sleep(time.Second)
			r.Post(Event{Kind: EvDemoting, Cause: "another router is Active", On: true})
			r.Post(Event{Kind: EvAddressesOut})
			time.Sleep(time.Second)
			synctest.Wait()
			on, off := slices.Index(w.said, "lenient true"), slices.Index(w.said, "lenient false")
			if fenced := slices.Index(w.said, "fenced"); fenced < 0 || stale != (on >= 0 && on < fenced && off > fenced) || !stale && on+off != -2 {
				t.Errorf("stale %t: %v", stale, w.said)
			}
		})
	}
}

// Beside another election they are not judged from the first moment to the
// last, whatever the role: its addresses do not move at once.
func TestLenientBesideAnotherElection(t *testing.T) {
	var w *world
	synctest.Test(t, func(t *testing.T) {
		var r *Runner
		var ctx context.Context
		r, w, ctx = running(t, true)
		w.stale = true
		_, err := r.Takeover(ctx, "MASTER")
		_, err2 := r.Yield(ctx, "BACKUP")
		synctest.Wait()
		if err != nil || err2 != nil || w.said[0] != "lenient true" || slices.Contains(w.said, "lenient false") {
			t.Errorf("%v, %v: %v", err, err2, w.said)
		}
	})
	if last := w.said[len(w.said)-1]; last != "lenient false" {
		t.Errorf("the last word is %q", last)
	}
}

// A yield that comes while a takeover commits is carried out at once, and who
// asked for the takeover is told.
func TestYieldOvertakesTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, ctx := running(t, true)
		first := make(chan error, 1)
		go func() {
			_, err := r.Takeover(ctx, "MASTER")
			first <- err
		}()
		time.Sleep(15 * time.Millisecond)
		if out, err := r.Yield(ctx, "BACKUP"); err != nil || out.Already {
			t.Errorf("yield: %+v, %v", out, err)
		}
		if err := <-first; err == nil || err.Error() != "the role was lost meanwhile: BACKUP" {
			t.Errorf("the takeover says %v", err)
		}
	})
}

func TestOrderThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, ctx := running(t, false)
		r.Post(Event{Kind: EvPeerUp, Peer: 1, Name: "r2"})
		r.Post(Event{Kind: EvView, Peer: 1, On: true})
		r.Post(Event{Kind: EvPeerState, Peer: 1, State: readyActive})
		gone, leave := context.WithTimeout(ctx, 100*time.Millisecond)
		defer leave()
		if _, err := r.Switchover(gone, "", false); err == nil {
			t.Error("a switchover that nobody answers succeeded")
		}
		// It goes on, and ends by itself.
		if _, err := r.Switchover(ctx, "", false); err == nil || !strings.Contains(err.Error(), "another change of role is under way") {
			t.Errorf("a second one meanwhile: %v", err)
		}
		time.Sleep(3 * time.Second)
		if _, err := r.Switchover(ctx, "r1", false); err == nil || !strings.Contains(err.Error(), "r2 did not say within 2s") {
			t.Errorf("a third one afterwards: %v", err)
		}
	})
}
