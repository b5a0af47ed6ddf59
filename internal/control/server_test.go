// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/event"
)

// fake is a daemon that says what it was told to say.
type fake struct {
	status Status
	sync   *SyncStatus
	flows  []Flow
	err    error
	stream *event.Stream
}

func (f *fake) Status() Status                { return f.status }
func (f *fake) VRRP() []VRRPGroup             { return f.status.Groups }
func (f *fake) Sync() *SyncStatus             { return f.sync }
func (f *fake) FlowCount() (FlowCount, error) { return FlowCount{Own: len(f.flows)}, f.err }
func (f *fake) Events() *event.Stream         { return f.stream }
func (f *fake) Flows(q FlowQuery, yield func(*Flow) bool) error {
	for i := range f.flows {
		if !yield(&f.flows[i]) {
			break
		}
	}
	return f.err
}

func (f *fake) Resync(peer string) ([]string, error) {
	if f.err != nil {
		return nil, f.err
	}
	return []string{peer, "r2"}, nil
}

func (f *fake) FlowDiff(context.Context) (FlowDiff, error) {
	return FlowDiff{Kernel: len(f.flows)}, f.err
}

// serve runs a server until the test ends and returns its path and its stop.
func serve(t *testing.T, b Backend) (path string, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "tandem") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path = filepath.Join(dir, "run", "tandem.sock")
	return path, serveAt(t, path, b)
}

func serveAt(t *testing.T, path string, b Backend) (stop func() error) {
	t.Helper()
	s := NewServer(path, b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	select {
	case <-s.Ready():
	case err := <-done:
		t.Fatalf("Run: %v", err)
	}
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestRoundTrip(t *testing.T) {
	at := time.Date(2026, 7, 1, 3, 0, 0, 0, time.UTC)
	b := &fake{
		status: Status{Node: "r1", Started: at, Now: at, Sets: []Set{{Name: "MAIN", Role: RoleActive, Since: at}}, Alarms: []Alarm{},
			Groups: []VRRPGroup{{Name: "LAN", VRID: 10, Counters: VRRPCounters{AdvertSent: 7}}}},
		sync:   &SyncStatus{Peers: []SyncPeer{{Name: "r2", BacklogMS: 1.5, Complete: true}}},
		flows:  []Flow{{Protocol: "tcp", Original: Tuple{Src: "10.0.0.5", SrcPort: 1}, Stranded: "why"}, {Protocol: "udp"}},
		stream: event.New(8),
	}
	path, _ := serve(t, b)
	c := NewClient(path)
	check := func(what string, want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	status, err := c.Status(t.Context())
	check("status", b.status, status, err)
	groups, err := c.VRRP(t.Context())
	check("vrrp", b.status.Groups, groups, err)
	sync, err := c.Sync(t.Context())
	check("sync", b.sync, sync, err)
	count, err := c.FlowCount(t.Context())
	check("count", FlowCount{Own: 2}, count, err)
	for limit, want := range map[int][]Flow{0: b.flows, 1: b.flows[:1]} {
		var flows []Flow
		err = c.Flows(t.Context(), FlowQuery{Limit: limit}, func(f *Flow) error {
			flows = append(flows, *f)
			return nil
		})
		check(fmt.Sprint("flows, limit ", limit), want, flows, err)
	}
	b.sync = nil
	sync, err = c.Sync(t.Context())
	check("no sync", (*SyncStatus)(nil), sync, err)
}

func TestFailures(t *testing.T) {
	b := &fake{flows: []Flow{{Protocol: "tcp"}}, err: errors.New("read the kernel table: no"), stream: event.New(8)}
	path, _ := serve(t, b)
	c := NewClient(path)
	_, err := c.FlowCount(t.Context())
	if err == nil || err.Error() != b.err.Error() {
		t.Errorf("count: got %v, want %v", err, b.err)
	}
	n := 0
	err = c.Flows(t.Context(), FlowQuery{}, func(*Flow) error { n++; return nil })
	if err == nil || err.Error() != b.err.Error() || n != 1 {
		t.Errorf("a stream that broke off: got %d flows, %v; want 1, %v", n, err, b.err)
	}
	err = c.Flows(t.Context(), FlowQuery{Protocol: "tpc"}, func(*Flow) error { return nil })
	if want := `protocol "tpc": must be a name such as tcp, or a number from 0 to 255`; err == nil || err.Error() != want {
		t.Errorf("bad query: got %v, want %s", err, want)
	}
}

func TestEvents(t *testing.T) {
	b := &fake{stream: event.New(8)}
	b.stream.Publish(event.Event{Kind: event.Role, Subject: "MAIN", Text: "Backup"})
	b.stream.Publish(event.Event{Kind: event.Role, Subject: "MAIN", Text: "Active"})
	path, stop := serve(t, b)
	c := NewClient(path)
	var got []string
	see := func(e event.Event) error {
		got = append(got, fmt.Sprintf("%d %s %v", e.Seq, e.Text, e.Snapshot))
		return nil
	}
	first := uint64(1)
	if err := errors.Join(c.Events(t.Context(), nil, false, see), c.Events(t.Context(), &first, false, see)); err != nil {
		t.Fatal(err)
	}
	// A follower sees the snapshot, then what is new, and ends with the daemon.
	followed := make(chan error, 1)
	at := make(chan struct{}, 8)
	go func() {
		followed <- NewClient(path).Events(t.Context(), nil, true, func(e event.Event) error {
			at <- struct{}{}
			return see(e)
		})
	}()
	<-at
	b.stream.Publish(event.Event{Kind: event.Fence, Text: "up"})
	<-at
	if err := stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-followed; err != nil {
		t.Errorf("follow: %v", err)
	}
	want := []string{"1 Backup false", "2 Active false", "2 Active false", "2 Active true", "3 up false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSocket(t *testing.T) {
	b := &fake{stream: event.New(1)}
	path, stop := serve(t, b)
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("got mode %v, %v; want a socket of 0600", info.Mode(), err)
	}
	second := NewServer(path, b, slog.New(slog.DiscardHandler)).Run(t.Context())
	if want := fmt.Sprintf("lock %q: another tandem is running with this control socket: stop it, or choose another control.socket", path+".lock"); second == nil || second.Error() != want {
		t.Errorf("a second daemon: got %v, want %s", second, want)
	}
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Errorf("the first daemon no longer answers: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket was left behind: %v", err)
	}
	// What kill -9 leaves: a socket that nobody listens on.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Close(fd)); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "has ended without cleaning up") {
		t.Errorf("a stale socket: got %v", err)
	}
	stop = serveAt(t, path, b)
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Errorf("after a stale socket: %v", err)
	}
	_ = stop()
	// A file that is no socket is somebody's.
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewServer(path, b, slog.New(slog.DiscardHandler)).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "something that is no socket has this name") {
		t.Errorf("a file in the way: got %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("a file that is no socket was overwritten")
	}
}

func TestNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	want := "connect to " + path + ": no such socket: tandem is not running here (or has another control.socket: name it with --socket)"
	if _, err := NewClient(path).Status(t.Context()); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
