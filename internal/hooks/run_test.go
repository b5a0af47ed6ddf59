// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/track"
)

// fake is a daemon with a real stream.
type fake struct {
	mu      sync.Mutex
	started time.Time
	stream  *event.Stream
	down    error         // nobody answers
	cut     chan struct{} // closed: streams end with broken, or in good order
	broken  error
	word    control.HooksWord
	done    uint64
}

func newFake() *fake {
	return &fake{started: time.Now(), stream: event.New(8), cut: make(chan struct{})}
}

func (f *fake) Hooks(_ context.Context, w control.HooksWord) (control.HooksAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return control.HooksAnswer{}, f.down
	}
	if f.word = w; w.Daemon.Equal(f.started) {
		f.done = max(f.done, w.Done)
	}
	return control.HooksAnswer{Started: f.started, Done: f.done}, nil
}

func (f *fake) Events(ctx context.Context, after *uint64, _ bool, fn func(event.Event) error) error {
	f.mu.Lock()
	sub, cut := f.stream.Subscribe(), f.cut
	if after != nil {
		sub = f.stream.SubscribeAfter(*after)
	}
	f.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-cut:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		e, lost, err := sub.Next(ctx)
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.broken
		}
		if lost > 0 {
			if err := fn(event.Event{Kind: event.Daemon}); err != nil {
				return err
			}
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

// end ends the streams; again nil: nobody answers any more, else that daemon is
// there in its place.
func (f *fake) end(broken error, again *fake) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = broken
	close(f.cut)
	f.cut = make(chan struct{})
	if again == nil {
		f.down = errors.New("no such socket")
		return
	}
	f.started, f.stream, f.done = again.started, again.stream, 0
}

// knows is the latest event whose scripts have run.
func (f *fake) knows() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

func (f *fake) publish(es ...event.Event) {
	for _, e := range es {
		f.stream.Publish(e)
	}
}

// ran collects the scripts that ran.
type ran struct {
	mu    sync.Mutex
	slow  time.Duration
	lines []string
}

func (r *ran) exec(ctx context.Context, j job) error {
	select {
	case <-time.After(r.slow):
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, programs([]job{j})[0])
	return nil
}

func (r *ran) want(t *testing.T, lines ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := cmp.Diff(lines, r.lines); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r.lines = nil
}

func newRunner(f daemon, child bool) (*Runner, *ran) {
	r := New(testConfig(), child, slog.New(slog.DiscardHandler))
	did := &ran{}
	r.daemon, r.exec = f, did.exec
	return r, did
}

func TestScriptsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.publish(role("DMZ", "Backup")) // a snapshot to begin with
		r, did := newRunner(f, false)
		did.slow = time.Second
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- r.Run(ctx) }()
		synctest.Wait()
		f.publish(role("DMZ", "Active"), addresses("DMZ", true), role("DMZ", "Initialize"), role("DMZ", "Backup"))
		time.Sleep(3500 * time.Millisecond)
		did.want(t, "backup DMZ", "active DMZ", "fault DMZ")
		if done := f.knows(); done != 4 { // 1 backup, 2 Active, 3 addresses in, 4 fault
			t.Errorf("the daemon knows that %d is done", done)
		}
		time.Sleep(time.Second)
		did.want(t, "backup DMZ")
		cancel()
		if err := <-end; err != nil {
			t.Error(err)
		}
		did.want(t) // being told to end is no end of the daemon
	})
}

// Another hooks process goes on after the last event whose scripts have run.
func TestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.publish(role("DMZ", "Backup"), role("DMZ", "Active"), addresses("DMZ", true), role("DMZ", "Backup"), role("DMZ", "Initialize"))
		f.done = 4
		r, did := newRunner(f, false)
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- r.Run(ctx) }()
		time.Sleep(time.Second)
		did.want(t, "fault DMZ")
		cancel()
		<-end
	})
}

// A stream that breaks off is taken up where it was; one that was too slow for
// the daemon's memory begins with a snapshot.
func TestBrokenStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		r, did := newRunner(f, false)
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- r.Run(ctx) }()
		synctest.Wait()
		f.publish(role("DMZ", "Backup"))
		time.Sleep(time.Second)
		f.end(errors.New("unexpected EOF"), &fake{started: f.started, stream: f.stream})
		synctest.Wait() // else the former stream would tell some of what follows
		f.publish(role("DMZ", "Initialize"), role("DMZ", "Backup"))
		time.Sleep(time.Second)
		did.want(t, "backup DMZ", "fault DMZ", "backup DMZ")
		f.end(errors.New("unexpected EOF"), &fake{started: f.started, stream: f.stream})
		synctest.Wait()
		for range 20 { // more than the fake remembers
			f.publish(role("DMZ", "Initialize"), role("DMZ", "Backup"))
		}
		f.publish(role("DMZ", "Initialize"))
		time.Sleep(time.Second)
		did.want(t, "fault DMZ")
		cancel()
		<-end
	})
}

// The daemon's end, in good order or not, is the stop of what it did not stop;
// then a child ends, and who is none waits for the next daemon.
func TestDaemonEnds(t *testing.T) {
	for name, broken := range map[string]error{"in good order": nil, "killed": errors.New("unexpected EOF")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				r, did := newRunner(f, true)
				end := make(chan error)
				go func() { end <- r.Run(t.Context()) }()
				synctest.Wait()
				f.publish(role("DMZ", "Backup"), role("MAIN", "Backup"), stopped("MAIN"))
				time.Sleep(time.Second)
				f.end(broken, nil)
				if err := <-end; err != nil {
					t.Error(err)
				}
				did.want(t, "backup DMZ", "backup LAN", "backup MAIN", "stop LAN", "stop MAIN", "stop DMZ")
			})
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				r, did := newRunner(f, false)
				ctx, cancel := context.WithCancel(t.Context())
				end := make(chan error)
				go func() { end <- r.Run(ctx) }()
				synctest.Wait()
				f.publish(role("DMZ", "Backup"))
				time.Sleep(time.Second)
				f.end(broken, nil)
				time.Sleep(10 * time.Second)
				did.want(t, "backup DMZ", "stop LAN", "stop MAIN", "stop DMZ")
				next := newFake()
				next.publish(role("DMZ", "Backup"))
				f.mu.Lock()
				f.down, f.started, f.stream, f.done = nil, next.started, next.stream, 0
				f.mu.Unlock()
				time.Sleep(time.Second)
				did.want(t, "backup DMZ")
				cancel()
				<-end
			})
		})
	}
}

// When the configuration was read again the process ends after the scripts of
// what came before, and the next one does not end for the same event.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		r, did := newRunner(f, true)
		did.slow = time.Second
		end := make(chan error)
		go func() { end <- r.Run(t.Context()) }()
		synctest.Wait()
		f.publish(role("DMZ", "Backup"), event.Event{Kind: event.Daemon, Subject: event.Configuration}, role("DMZ", "Initialize"))
		if err := <-end; err != nil {
			t.Error(err)
		}
		did.want(t, "backup DMZ")
		r, did = newRunner(f, true)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { end <- r.Run(ctx) }()
		time.Sleep(10 * time.Second)
		did.want(t, "fault DMZ")
		cancel()
		<-end
	})
}

// A child whose daemon was killed and started again leaves the field to that
// one's child, and does not tell it of the former's events.
func TestOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		r, did := newRunner(f, true)
		end := make(chan error)
		go func() { end <- r.Run(t.Context()) }()
		synctest.Wait()
		f.publish(role("DMZ", "Backup"))
		time.Sleep(time.Second)
		f.end(errors.New("unexpected EOF"), newFake())
		if err := <-end; err != nil {
			t.Error(err)
		}
		did.want(t, "backup DMZ")
		if done := f.knows(); done != 0 {
			t.Errorf("the new daemon believes that %d is done", done)
		}
	})
}

func TestChildWithoutDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.down = errors.New("no such socket")
		r, did := newRunner(f, true)
		if err := r.Run(t.Context()); !errors.Is(err, f.down) {
			t.Errorf("got %v", err)
		}
		did.want(t)
	})
}

// Levels go to the daemon as soon as they change, and each two seconds.
func TestChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		r, _ := newRunner(f, false)
		var mu sync.Mutex
		var fails error
		r.checks = newChecks([]probe{{name: "health-check of DMZ", rule: track.Rule{Interval: 10 * time.Second, FailureCount: 2, Rise: 1},
			run: func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				return fails
			}}}, func() { kick(r.say) }, r.log)
		ctx, cancel := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- r.Run(ctx) }()
		says := func(want control.CheckWord) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if d := cmp.Diff([]control.CheckWord{want}, f.word.Checks); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
		time.Sleep(time.Millisecond)
		says(control.CheckWord{Name: "health-check of DMZ", State: "up"})
		mu.Lock()
		fails = errors.New("exit status 1")
		mu.Unlock()
		time.Sleep(10 * time.Second)
		says(control.CheckWord{Name: "health-check of DMZ", State: "up", Why: "exit status 1"})
		time.Sleep(10 * time.Second)
		says(control.CheckWord{Name: "health-check of DMZ", State: "down", Why: "exit status 1 (2 times in a row)"})
		f.mu.Lock()
		f.word = control.HooksWord{}
		f.mu.Unlock()
		time.Sleep(sayEvery + time.Millisecond)
		says(control.CheckWord{Name: "health-check of DMZ", State: "down", Why: "exit status 1 (2 times in a row)"})
		cancel()
		<-end
	})
}
