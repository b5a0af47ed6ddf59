// SPDX-License-Identifier: Apache-2.0

package syncproto

// take is Path.Receive.
func (p *Peer) take(payload []byte, now int64) error {
	p.n.now = now
	p.stats.ReceivedDatagrams++
	p.stats.ReceivedBytes += uint64(len(payload))
	err := p.receive(payload, now)
	if err != nil {
		*p.refusal(err)++
	}
	return err
}

// refusal gives the counter of a refusal.
func (p *Peer) refusal(err error) *uint64 {
	s := &p.stats
	switch err {
	case errVersion:
		return &s.RefusedVersion
	case errSealed:
		return &s.RefusedSeal
	case errChecksum:
		return &s.RefusedChecksum
	case errSession:
		return &s.RefusedSession
	case errReplayed:
		return &s.RefusedReplay
	case errHello:
		return &s.RefusedHello
	case errRecord:
		return &s.RefusedRecord
	case errOurs:
		return &s.RefusedReflected
	}
	return &s.RefusedShort
}

func (p *Peer) receive(payload []byte, now int64) error {
	var h header
	body, err := parseDatagram(payload, &h)
	if err != nil {
		return err
	}
	s := &p.session
	if s.paired && h.sender == s.my || s.hasSpare && h.sender == s.spare {
		return errOurs
	}
	switch h.kind {
	case typeHello:
		return p.receiveHello(&h, body, now)
	case typeData:
		return p.receiveData(&h, body, now)
	}
	return errShort
}

func (p *Peer) receiveHello(h *header, body []byte, now int64) error {
	var m hello
	if !onlyHello(body, &m) || h.sender == (Session{}) {
		return errHello
	}
	if !m.spoken() {
		return errVersion
	}
	return p.session.hello(h, &m, now)
}

// onlyHello finds the hello among records; others are skipped.
func onlyHello(b []byte, m *hello) (found bool) {
	for len(b) > 0 {
		if b[0]&classMask != classControl {
			return false
		}
		typ, body, rest, ok := parseControl(b)
		if !ok {
			return false
		}
		if typ == recHello {
			if found || !parseHello(body, m) {
				return false
			}
			found = true
		}
		b = rest
	}
	return found
}

func (p *Peer) receiveData(h *header, body []byte, now int64) error {
	s := &p.session
	if !s.paired || h.receiver != s.my || h.sender != s.their {
		if p.n.mutant == mutantForeignAck && p.valid(body) {
			p.applyForeignAck(body, now)
		}
		s.strange(h, now)
		return errSession
	}
	if !p.in.fresh(h.seq) {
		return errReplayed
	}
	if !p.valid(body) {
		return errRecord
	}
	s.confirm(now)
	p.in.mark(h.seq)
	p.hear(now)
	p.apply(h, body, now)
	return nil
}

// valid reads all records before any is applied: a datagram counts as a whole
// or not at all. The first flow records stay in p.read.
func (p *Peer) valid(b []byte) bool {
	prev := uint32(0)
	p.read = p.read[:0]
	for len(b) > 0 {
		if b[0]&classMask != classControl {
			rec := p.place()
			rest, err := parseFlow(b, prev, rec)
			if err != nil || int(rec.slot>>1) >= p.n.cfg.MaxFlows {
				return false
			}
			rec.size = uint16(len(b) - len(rest))
			b, prev = rest, rec.slot
			continue
		}
		typ, body, rest, ok := parseControl(b)
		if !ok || !validControl(typ, body) {
			return false
		}
		b = rest
	}
	return true
}

// readAtOnce is more flow records than a datagram without jumbo frames holds in
// a join; of a datagram with more the rest is read twice.
const readAtOnce = 96

// place gives memory for a flow record: in p.read, while there is room.
func (p *Peer) place() *flowRecord {
	n := len(p.read)
	if n == cap(p.read) {
		if n > 0 {
			return &p.rec
		}
		p.read = make([]flowRecord, 0, readAtOnce)
	}
	p.read = p.read[:n+1]
	return &p.read[n]
}

func validControl(typ byte, body []byte) (ok bool) {
	switch typ {
	case recAck:
		var a ack
		return parseAck(body, &a)
	case recState:
		_, _, _, ok = parseState(body)
		return ok
	case recPath:
		var m pathRecord
		return parsePath(body, &m)
	case recComplete, recRelease:
		r := reader{b: body}
		r.uvarint()
		return !r.bad && len(r.b) == 0
	case recDigest:
		var d digestRecord
		return parseDigest(body, &d)
	case recResync:
		_, ok = parseResync(body, nil)
		return ok
	case recVerdict:
		var v verdictRecord
		return parseVerdict(body, &v)
	}
	return true
}

// apply takes the records of a valid datagram in their order.
func (p *Peer) apply(h *header, b []byte, now int64) {
	prev, eliciting, urgent, n := uint32(0), false, false, 0
	p.view.warm(p.read)
	for len(b) > 0 {
		if b[0]&classMask == classControl {
			typ, body, rest, _ := parseControl(b)
			urgent = p.applyControl(typ, body, h.seq, now) || urgent
			b = rest
			continue
		}
		rec := &p.rec
		if n < len(p.read) {
			rec = &p.read[n]
			b = b[rec.size:]
		} else {
			b, _ = parseFlow(b, prev, rec)
			p.view.hash(rec)
		}
		prev, eliciting = rec.slot, true
		n++
		p.applyFlow(rec, h.seq, now)
	}
	if !eliciting && !urgent {
		return
	}
	if p.unacked++; p.unacked >= ackEach || urgent {
		p.ackDue = now
	} else {
		p.ackDue = min(p.ackDue, now+ackDelay)
	}
}

func (p *Peer) applyFlow(rec *flowRecord, seq uint64, now int64) {
	switch rec.class {
	case classFull:
		p.stats.ReceivedFull++
		p.view.full(rec, seq, now)
	case classShort:
		p.stats.ReceivedShort++
		if !p.view.short(rec, seq, now) {
			p.stats.BrokenBase++
			p.session.renew(now)
		}
	case classDelete:
		p.stats.ReceivedDeletes++
		p.view.del(rec, seq)
	}
}

// applyControl says whether somebody waits for the record's acknowledgement.
func (p *Peer) applyControl(typ byte, body []byte, seq uint64, now int64) bool {
	r := reader{b: body}
	switch typ {
	case recAck:
		var a ack
		parseAck(body, &a)
		p.out.acknowledged(&a, now)
	case recState:
		p.applyState(body, now)
	case recPath:
		var m pathRecord
		parsePath(body, &m)
		p.reportedPaths(&m, seq, now)
	case recComplete:
		if p.view.saidComplete(now) {
			p.n.event(Event{Kind: ViewComplete, Peer: p})
		}
		return true
	case recRelease:
		p.view.saidRelease(r.uvarint())
		return true
	case recDigest:
		p.receiveDigest(body, seq, now)
	case recResync:
		p.receiveResync(body, now)
		return body[0] == resyncAll
	case recVerdict:
		var v verdictRecord
		parseVerdict(body, &v)
		p.out.round.judged(&v, now)
	default:
		p.stats.SkippedRecords++
	}
	return false
}

// applyState: older versions, overtaken on the way, are nothing new.
func (p *Peer) applyState(body []byte, now int64) {
	version, echo, blob, _ := parseState(body)
	p.gotV = max(p.gotV, min(echo, p.n.blobV))
	if version <= p.theirV {
		return
	}
	p.theirV = version
	p.theirs = append(p.theirs[:0], blob...)
	p.stateDue = now // to echo it
	p.n.event(Event{Kind: PeerState, Peer: p, Blob: p.theirs})
}

// applyForeignAck is the mutant that believes acknowledgements of a former
// life.
func (p *Peer) applyForeignAck(b []byte, now int64) {
	for len(b) > 0 && b[0]&classMask == classControl {
		typ, body, rest, _ := parseControl(b)
		if typ == recAck {
			p.applyControl(typ, body, 0, now)
		}
		b = rest
	}
}
