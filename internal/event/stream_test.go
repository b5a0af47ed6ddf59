// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func texts(es []Event) (out []string) {
	for _, e := range es {
		out = append(out, fmt.Sprintf("%d %s", e.Seq, e.Text))
	}
	return out
}

func TestHistory(t *testing.T) {
	s := New(3)
	if got := s.History(0); got != nil {
		t.Fatalf("history of an empty stream: %v", got)
	}
	for i := range 5 {
		s.Publish(Event{Text: string(rune('a' + i))})
	}
	for _, tt := range []struct {
		since uint64
		want  []string
	}{
		{0, []string{"3 c", "4 d", "5 e"}},
		{3, []string{"4 d", "5 e"}},
		{5, nil},
		{99, nil},
	} {
		if d := cmp.Diff(tt.want, texts(s.History(tt.since))); d != "" {
			t.Errorf("since %d (-want +got):\n%s", tt.since, d)
		}
	}
}

func TestSnapshotThenLive(t *testing.T) {
	s := New(2) // shorter than the snapshot: the latest of a kind outlives the ring
	s.Publish(Event{Kind: Role, Subject: "MAIN", Text: "Backup"})
	s.Publish(Event{Kind: Peer, Subject: "r2", Text: "heard"})
	s.Publish(Event{Kind: Fence, Text: "up"})
	s.Publish(Event{Kind: Role, Subject: "MAIN", Text: "Active"})
	s.Publish(Event{Kind: Fence, Text: "down"})
	sub := s.Subscribe()
	s.Publish(Event{Kind: Role, Subject: "MAIN", Text: "Backup"})
	var got []string
	for range 4 {
		e, lost, err := sub.Next(t.Context())
		if err != nil || lost != 0 {
			t.Fatalf("Next: lost %d, %v", lost, err)
		}
		got = append(got, fmt.Sprintf("%d %s %v", e.Seq, e.Text, e.Snapshot))
	}
	want := []string{"2 heard true", "4 Active true", "5 down true", "6 Backup false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSlowReaderIsTold(t *testing.T) {
	s := New(2)
	sub := s.SubscribeAfter(0)
	for range 5 {
		s.Publish(Event{})
	}
	e, lost, err := sub.Next(t.Context())
	if err != nil || e.Seq != 4 || lost != 3 {
		t.Fatalf("got event %d, lost %d, %v; want 4, 3, nil", e.Seq, lost, err)
	}
	e, lost, _ = sub.Next(t.Context())
	if e.Seq != 5 || lost != 0 {
		t.Fatalf("got event %d, lost %d; want 5, 0", e.Seq, lost)
	}
}

func TestSubscribeAfterTheFuture(t *testing.T) {
	s := New(4) // a reader may come back with the number of a former process
	s.Publish(Event{Text: "a"})
	sub := s.SubscribeAfter(1000)
	s.Publish(Event{Text: "b"})
	if e, lost, _ := sub.Next(t.Context()); e.Seq != 2 || lost != 0 {
		t.Fatalf("got event %d, lost %d; want 2, 0", e.Seq, lost)
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(4)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		sub := s.Subscribe()
		go func() {
			time.Sleep(500 * time.Millisecond)
			s.Publish(Event{Text: "late"})
		}()
		e, _, err := sub.Next(ctx)
		if err != nil || e.Text != "late" || e.At.IsZero() {
			t.Fatalf("got %+v, %v", e, err)
		}
		if _, _, err := sub.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want the context's error", err)
		}
	})
}

// Every reader sees every event, in order, whoever publishes.
func TestConcurrent(t *testing.T) {
	const writers, each, readers = 4, 500, 3
	s := New(writers * each)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				s.Publish(Event{Kind: Peer})
			}
		})
	}
	for range readers {
		sub := s.SubscribeAfter(0)
		wg.Go(func() {
			for want := uint64(1); want <= writers*each; want++ {
				if e, lost, err := sub.Next(t.Context()); err != nil || lost != 0 || e.Seq != want {
					t.Errorf("got event %d, lost %d, %v; want %d", e.Seq, lost, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}
