// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"testing"
	"time"
)

// fence opens the fence of the given kind in the lab's router.
func (l *lab) fence(kind string) *Fence {
	l.t.Helper()
	var f *Fence
	l.in(l.router, func() {
		var err error
		if kind == "netfilter" {
			f, err = OpenFence(logger(l.t))
		} else {
			f, err = openFenceTC(logger(l.t), kind)
		}
		if err != nil {
			l.t.Errorf("open fence: %v", err)
		}
	})
	l.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			l.t.Errorf("close fence: %v", err)
		}
	})
	if f.Kind() != kind {
		l.t.Fatalf("kind %q, want %q", f.Kind(), kind)
	}
	return f
}

var fences = []string{"netfilter", rungTCX, rungClsact}

func TestFence(t *testing.T) {
	for _, kind := range fences {
		t.Run(kind, func(t *testing.T) {
			l := newLab(t)
			l.serve(80)
			known := l.dial("tcp", "10.1.0.1:80")
			exchange(t, known)
			f := l.fence(kind)
			f.Up(time.Minute)
			exchange(t, known)
			fresh := l.dial("udp", "10.1.0.1:80")
			if tryExchange(fresh, 200*time.Millisecond) == nil {
				t.Error("a new flow passed the fence")
			}
			f.Down()
			f.Renew(time.Minute) // late: must not raise it again
			exchange(t, fresh)

			f.Up(200 * time.Millisecond) // and nobody renews
			late := l.dial("udp", "10.1.0.1:80")
			begin := time.Now()
			for tryExchange(late, 20*time.Millisecond) != nil {
				if time.Since(begin) > 2*time.Second {
					t.Fatal("the fence outlived its deadline")
				}
			}
			if d := time.Since(begin); d < 150*time.Millisecond {
				t.Errorf("a new flow passed after %v", d)
			}
			if s := f.Stats(); s.DroppedNew == 0 || s.PassedKnown == 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}
