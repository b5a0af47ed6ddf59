// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Table is the kernel table of one network namespace: the one of the thread
// that called Open. One goroutine at a time may use it, except that Dump and
// DumpSlice (one goroutine) may run beside the rest (another): they have a
// socket of their own.
type Table struct {
	ops     *conn
	walk    *conn
	buf     []byte // requests
	sndbuf  int    // bytes that one sendmsg may carry
	walking bool   // a DumpSlice is under way
	walkSeq uint32
	got     Flow // of Get
	shown   Flow // of DumpSlice
}

// Open opens the kernel table of the caller's network namespace; the calling
// goroutine must be locked to its thread if that is not the process's own.
// Changing the table needs CAP_NET_ADMIN.
func Open() (*Table, error) {
	ops, err := dial()
	if err != nil {
		return nil, err
	}
	walk, err := dial()
	if err != nil {
		ops.close()
		return nil, err
	}
	t := &Table{ops: ops, walk: walk}
	if err := t.grow(); err != nil {
		t.Close()
		return nil, fmt.Errorf("enlarge socket buffers: %w", err)
	}
	return t, nil
}

func (t *Table) grow() error {
	if _, err := forceBuffer(t.ops.fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, answerBuffer); err != nil {
		return err
	}
	n, err := forceBuffer(t.ops.fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer)
	t.sndbuf = n - 32 // netlink_sendmsg
	return err
}

// Close closes the sockets. Nothing else may be under way.
func (t *Table) Close() error { return errors.Join(t.ops.close(), t.walk.close()) }

// PortID is the netlink port id that Death.PortID shows for entries that this
// Table deleted.
func (t *Table) PortID() uint32 { return t.ops.port }

// Get reads one entry by its original tuple and zone into f; false if there is
// none. One round trip, under ctnetlink's mutex.
func (t *Table) Get(k *Key, f *Flow) (bool, error) {
	if !validFamily(k.Family) {
		return false, fmt.Errorf("get flow: %w", unix.EAFNOSUPPORT)
	}
	seq := t.ops.nextSeq(1)
	t.buf = appendKeyed(t.buf[:0], msgGet, k, seq, 0)
	m, err := t.ask(seq)
	if err == unix.ENOENT {
		return false, nil
	}
	if err == nil {
		err = t.got.decode(m.Payload)
	}
	if err != nil {
		return false, fmt.Errorf("get flow: %w", err)
	}
	// The kernel looks the tuple up in both directions.
	if t.got.Key() != *k {
		return false, nil
	}
	*f = t.got
	return true, nil
}

// Delete deletes the entry that holds the tuple in either direction; that
// there is none is no error.
func (t *Table) Delete(k *Key) error {
	if !validFamily(k.Family) {
		return fmt.Errorf("delete flow: %w", unix.EAFNOSUPPORT)
	}
	seq := t.ops.nextSeq(1)
	t.buf = appendKeyed(t.buf[:0], msgDelete, k, seq, unix.NLM_F_ACK)
	if _, err := t.ask(seq); err != nil && err != unix.ENOENT {
		return fmt.Errorf("delete flow: %w", err)
	}
	return nil
}

// ask sends t.buf and gives the answer to seq; an NLMSG_ERROR becomes its
// errno, bare.
func (t *Table) ask(seq uint32) (m message, err error) {
	if err := t.ops.send(t.buf); err != nil {
		return m, err
	}
	for {
		if m, err = t.ops.receive(); err != nil {
			return m, err
		}
		if m.Seq != seq {
			continue // of a batch that was given up
		}
		if m.Type != unix.NLMSG_ERROR {
			return m, nil
		}
		errno, err := m.errno()
		if err == nil && errno != 0 {
			err = errno
		}
		return m, err
	}
}

// Count gives the entries of this namespace and the host's nf_conntrack_max,
// which bounds each namespace by itself.
func (t *Table) Count() (n, max uint32, err error) {
	seq := t.ops.nextSeq(1)
	t.buf = endMessage(appendHeader(t.buf[:0], msgGetStats, unix.NLM_F_REQUEST, seq, unix.AF_UNSPEC), 0)
	m, err := t.ask(seq)
	if err != nil {
		return 0, 0, fmt.Errorf("count flows: %w", err)
	}
	if len(m.Payload) < sizeofGenmsg {
		return 0, 0, fmt.Errorf("count flows: %w", errMalformed)
	}
	a := attrs{rest: m.Payload[sizeofGenmsg:]}
	for a.next() {
		switch a.typ {
		case ctaStatsGlobalEntries:
			n = a.get32()
		case ctaStatsGlobalMaxEntries:
			max = a.get32()
		}
	}
	if a.bad {
		return 0, 0, fmt.Errorf("count flows: %w", errMalformed)
	}
	return n, max, nil
}

// Buckets is the host's nf_conntrack_buckets, one hash table for all
// namespaces: many times more entries than buckets make long chains, and the
// kernel refuses an insert into a chain that is too long.
func (t *Table) Buckets() (uint32, error) {
	const name = "/proc/sys/net/netfilter/nf_conntrack_buckets"
	b, err := os.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("read hash size: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("parse %q: %w", name, err)
	}
	return uint32(n), nil
}

// validFamily guards every request: the kernel would take others for "all".
func validFamily(family uint8) bool { return family == IPv4 || family == IPv6 }
