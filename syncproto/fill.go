// SPDX-License-Identifier: Apache-2.0

package syncproto

// MinPayload is the smallest buffer that Fill accepts.
const MinPayload = 512

// Fill writes the next datagram into buf, whose length is the largest payload
// that the link carries, at least MinPayload, and gives its length; 0: nothing
// to send now. Call it until it gives 0.
func (p *Peer) Fill(buf []byte, now int64) int {
	if len(buf) < MinPayload {
		panic("syncproto: buffer of less than MinPayload")
	}
	p.n.now = now
	out := 0
	switch {
	case p.session.due <= now:
		out = p.fillHello(buf, now)
	case p.session.confirmed:
		out = p.fillData(buf, now)
	}
	if out > 0 {
		p.stats.SentDatagrams++
		p.stats.SentBytes += uint64(out)
	}
	return out
}

func (p *Peer) fillHello(buf []byte, now int64) int {
	p.out.seq++
	h := header{seq: p.out.seq}
	m := p.n.hello()
	m.flags = p.session.header(now, &h)
	b := appendHeader(buf[:0], &h)
	b = appendHello(b, &m)
	return len(closeDatagram(b))
}

func (p *Peer) fillData(buf []byte, now int64) int {
	o := &p.out
	o.size = len(buf)
	heartbeat := now >= p.sent+int64(p.n.cfg.Heartbeat)
	flows := o.open() && (o.said() || o.waiting() > 0 && o.batchAt <= now)
	if !heartbeat && !flows && p.ackDue > now && p.stateDue > now && min(p.repair.due, o.round.due) > now {
		return 0
	}
	o.seq++
	b := appendHeader(buf[:0], &header{kind: typeData, seq: o.seq, sender: p.session.my, receiver: p.session.their})
	fixed := len(b)
	if p.unacked > 0 || heartbeat && p.in.highest > 0 {
		b = p.in.appendAck(b)
		p.unacked, p.ackDue = 0, forever
	}
	if heartbeat || p.stateDue <= now {
		b = appendState(b, p.n.blobV, p.theirV, p.n.blob)
		p.stateDue = forever
		if p.up && p.gotV != p.n.blobV {
			p.stateDue = now + stateEvery
		}
	}
	b = p.repair.fill(b, len(buf)-crcLen)
	b = o.fillDigests(b, len(buf)-crcLen, now)
	b = o.fillRound(b, len(buf)-crcLen, now)
	if flows {
		b = o.fill(b, len(buf)-crcLen, now)
	}
	if len(b) == fixed { // what waited ended meanwhile
		o.seq--
		return 0
	}
	p.sent = now
	return len(closeDatagram(b))
}

// fill appends what this peer does not know, up to limit.
func (o *sender) fill(b []byte, limit int, now int64) []byte {
	f := o.flights.add(o.seq, now)
	if o.release == due {
		b = appendNumber(b, recRelease, o.releaseTo)
		o.release, o.releaseAt, f.release = flying, o.seq, true
	}
	if o.complete == due {
		b = appendNumber(b, recComplete, uint64(o.p.n.OwnLen()))
		o.complete, f.complete = flying, true
	}
	if o.resync == due {
		b = appendResync(b, resyncAll, nil)
		o.resync, f.resync = flying, true
	}
	o.turn++
	var rec [maxRecord]byte
	for prev := uint32(0); ; {
		slot, from, since, ok := o.next()
		if !ok {
			break
		}
		r, class, use := o.record(rec[:0], slot, prev)
		if len(b)+len(r) > limit {
			break
		}
		b, prev = append(b, r...), slot
		o.sent(slot, class, from)
		f.records = append(f.records, carried{slot, use, class})
		f.since = min(f.since, since)
	}
	f.flows = len(f.records)
	if f.flows == 0 && !f.release && !f.complete && !f.resync {
		o.flights.n--
	}
	o.batchAt = forever
	if o.waiting() > 0 {
		o.batchAt = now
	}
	return b
}

// record encodes the current content of a slot.
func (o *sender) record(b []byte, slot, prev uint32) (rec []byte, class byte, use uint32) {
	p, own := o.p, &o.p.n.own
	body := own.body(slot)
	if !body.has(flagUsed) {
		return appendDelete(b, slot, prev, body.has(ownOwner)), classDelete, 0
	}
	f := &own.scratch
	own.tabs[slot&1].load(slot>>1, f)
	owner, heat := body.has(ownOwner), heatOf(body.age(p.n.now))
	if *o.word(slot)&slotBased != 0 || p.n.mutant == mutantShortWithoutBase {
		return appendShort(b, slot, prev, f, owner, heat), classShort, body.link
	}
	return appendFull(b, slot, prev, f, owner, heat), classFull, body.link
}
