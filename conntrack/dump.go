// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// Dump calls fn for every entry, both families, all zones. The Flow is reused
// between calls; an error of fn ends the dump and is returned. An entry that
// lives as long as the dump is shown, possibly twice; no state of the table at
// one instant is. Entries that nobody confirmed yet are not shown.
//
// Only the first 32 KiB are collected under ctnetlink's mutex (all namespaces
// share it); the rest takes one lock per hash bucket, as fast as fn reads.
func (t *Table) Dump(fn func(*Flow) error) error {
	if err := t.endWalk(); err != nil {
		return err
	}
	_, err := t.DumpSlice(math.MaxInt, fn)
	return err
}

// DumpSlice is a Dump in steps: it calls fn for at most about max entries
// (whole datagrams of some 100 entries are delivered) and says whether that
// was the end. The next call goes on, or begins anew after the end or an
// error. Between calls the kernel does nothing and holds no lock, only the
// place of the walk; entries made or ended meanwhile may be shown or not.
func (t *Table) DumpSlice(max int, fn func(*Flow) error) (done bool, err error) {
	if !t.walking {
		if err := t.startWalk(); err != nil {
			return false, err
		}
	}
	for n := 0; n < max || len(t.walk.rest) > 0; n++ {
		more, err := t.walkOne(fn)
		if err != nil {
			if t.walking {
				_ = t.endWalk() // the next call must not find this walk's rest
			}
			return false, err
		}
		if !more {
			return true, nil
		}
	}
	return false, nil
}

func (t *Table) startWalk() error {
	t.walkSeq = t.walk.nextSeq(1)
	t.walk.rest = nil
	var b [sizeofHeader + sizeofGenmsg]byte
	msg := endMessage(appendHeader(b[:0], msgGet, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, t.walkSeq, unix.AF_UNSPEC), 0)
	if err := t.walk.send(msg); err != nil {
		return fmt.Errorf("dump kernel table: %w", err)
	}
	t.walking = true
	return nil
}

// walkOne reads one message; more is false after the last.
func (t *Table) walkOne(fn func(*Flow) error) (more bool, err error) {
	m, err := t.walk.receive()
	if err != nil {
		t.walking = false
		return false, fmt.Errorf("dump kernel table: %w", err)
	}
	if m.Seq != t.walkSeq {
		return true, nil
	}
	switch m.Type {
	case unix.NLMSG_DONE, unix.NLMSG_ERROR:
		t.walking = false
		errno, err := m.errno()
		if err == nil && errno != 0 {
			err = errno
		}
		if err != nil {
			return false, fmt.Errorf("dump kernel table: %w", err)
		}
		return false, nil
	case msgNew:
		if err := t.shown.decode(m.Payload); err != nil {
			return false, fmt.Errorf("dump kernel table: %w", err)
		}
		return true, fn(&t.shown)
	}
	return true, nil
}

// endWalk reads a walk under way to its end: a socket has one dump at a time,
// and a new one could not be opened in this namespace from another thread.
func (t *Table) endWalk() error {
	for t.walking {
		if _, err := t.walkOne(func(*Flow) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}
