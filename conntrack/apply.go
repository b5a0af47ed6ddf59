// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// batchOps is how many ops one sendmsg carries: 480k creates/s in batches of
// 300 against 405k/s in batches of 100; more gains nothing and holds
// ctnetlink's mutex no longer, since that is taken per message.
const batchOps = 300

// seqPerOp: an op has two sequence numbers, the first for its deletion, the
// second for its creation, so that an answer names op and half.
const seqPerOp = 2

// OpKind is what an Op does.
type OpKind uint8

// Kinds of Op.
const (
	// OpCreate makes an entry. EEXIST: one of its tuples is taken.
	OpCreate OpKind = iota
	// OpReplace deletes the entry with the flow's original tuple, if there is
	// one, and makes it anew: the only way to clear status bits or to change
	// what it translates to. Between the two a packet may make an entry of its
	// own: EEXIST.
	OpReplace
	// OpDelete deletes the entry that holds the flow's original tuple (in
	// either direction); that there is none is no error.
	OpDelete
	// OpLiberal sets BE_LIBERAL in the TCP entry with the flow's original tuple
	// and leaves the rest: windows that are stale do no harm then. ENOENT.
	OpLiberal
	// OpRenew sets the timeout of the entry with the flow's original tuple and
	// leaves the rest. ENOENT: also of one that has run out and that the kernel
	// has not removed yet. EPERM: its timeout is fixed.
	OpRenew
)

// Op is one change of the kernel table. Apply sets Err to nil or the kernel's
// refusal, a unix.Errno.
type Op struct {
	Kind OpKind
	Flow Flow
	Err  error
}

// Apply carries out ops in order, in batches of 300 or what fits the socket
// buffer. Each op's outcome is in its Err; the returned error means that the
// socket failed, and ops from the failed batch on have it as their Err too
// (whether the kernel carried them out is unknown then). It does not allocate
// per op. Beside EEXIST there are ENOMEM (nf_conntrack_max reached), ENOSPC
// (hash chain too long), ERANGE (TCP state or window scale) and EBUSY (delete
// of an offloaded flow).
func (t *Table) Apply(ops []Op) error {
	for len(ops) > 0 {
		n, err := t.applyBatch(ops)
		if err != nil {
			err = fmt.Errorf("write kernel table: %w", err)
			for i := range ops {
				ops[i].Err = err
			}
			return err
		}
		ops = ops[n:]
	}
	return nil
}

// applyBatch sends one batch and collects its answers: refusals only, and the
// acknowledgement of the last message, which is the barrier.
func (t *Table) applyBatch(ops []Op) (n int, err error) {
	first := t.ops.nextSeq(seqPerOp * batchOps)
	n, last := t.encodeBatch(ops, first)
	if len(t.buf) == 0 {
		return n, nil // every op was refused here
	}
	if err := t.ops.send(t.buf); err != nil {
		return n, err
	}
	for {
		m, err := t.ops.receive()
		if err != nil {
			return n, err
		}
		if m.Type != unix.NLMSG_ERROR || !ours(m.Seq, first, uint32(n)*seqPerOp) {
			continue
		}
		errno, err := m.errno()
		if err != nil {
			return n, err
		}
		ops[(m.Seq-first)/seqPerOp].answer(errno, (m.Seq-first)%seqPerOp == 0)
		if m.Seq == last {
			return n, nil
		}
	}
}

// encodeBatch fills t.buf with up to batchOps ops and gives their number and
// the sequence number of the last message.
func (t *Table) encodeBatch(ops []Op, first uint32) (n int, last uint32) {
	b := t.buf[:0]
	final := 0 // where the last message starts
	for n < len(ops) && n < batchOps && len(b)+2*maxCreateSize <= t.sndbuf {
		op, seq := &ops[n], first+uint32(n)*seqPerOp
		n++
		op.Err = nil
		if !validFamily(op.Flow.Family) {
			op.Err = unix.EAFNOSUPPORT
			continue
		}
		if op.Kind == OpReplace || op.Kind == OpDelete {
			k := op.Flow.Key()
			final, last = len(b), seq
			b = appendKeyed(b, msgDelete, &k, seq, 0)
		}
		switch op.Kind {
		case OpCreate, OpReplace:
			final, last = len(b), seq+1
			b = appendCreate(b, &op.Flow, seq+1)
		case OpLiberal:
			k := op.Flow.Key()
			final, last = len(b), seq+1
			b = appendLiberal(b, &k, seq+1)
		case OpRenew:
			k := op.Flow.Key()
			final, last = len(b), seq+1
			b = appendRenew(b, &k, op.Flow.Timeout, seq+1)
		}
	}
	if len(b) > 0 {
		setFlags(b[final:], unix.NLM_F_ACK)
	}
	t.buf = b
	return n, last
}

// answer takes the outcome of one half of the op. The first refusal counts:
// a deletion that failed makes the creation fail with EEXIST.
func (op *Op) answer(errno unix.Errno, deletion bool) {
	if errno == 0 || op.Err != nil || (deletion && errno == unix.ENOENT) {
		return
	}
	op.Err = errno
}
