// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// teller prints what happens, with the seconds since the start. On a terminal
// its last line is rewritten while a load runs.
type teller struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool
	began time.Time
	head  string // round and system, before every line
	last  time.Time
	dirty bool // the terminal's line is to be overwritten
}

func newTeller(out io.Writer, live bool) *teller {
	return &teller{out: out, live: live, began: time.Now()}
}

func (t *teller) say(format string, args ...any) { t.print(true, format, args...) }

// now says where a thing stands: at most twice a second on a terminal, every
// ten seconds elsewhere.
func (t *teller) now(format string, args ...any) {
	every := 10 * time.Second
	if t.live {
		every = 500 * time.Millisecond
	}
	if time.Since(t.last) >= every {
		t.print(!t.live, format, args...)
	}
}

func (t *teller) print(stays bool, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	if t.dirty {
		fmt.Fprint(t.out, "\r\x1b[K")
	}
	fmt.Fprintf(t.out, "%6.1f s  %s%s", time.Since(t.began).Seconds(), t.head, fmt.Sprintf(format, args...))
	if stays {
		fmt.Fprintln(t.out)
	}
	t.dirty = !stays
}

// done ends a line that was left open.
func (t *teller) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dirty {
		fmt.Fprintln(t.out)
		t.dirty = false
	}
}
