// SPDX-License-Identifier: Apache-2.0

package syncproto

// MinPayload is the smallest buffer that Fill accepts.
const MinPayload = 512

// Fill writes the next datagram for this path into buf, whose length is the
// largest payload that the link carries, at least MinPayload, and gives its
// length; 0: nothing to send now. Call it until it gives 0.
func (pa *Path) Fill(buf []byte, now int64) int {
	if len(buf) < MinPayload {
		panic("syncproto: buffer of less than MinPayload")
	}
	p := pa.p
	p.n.now = now
	pa.size = len(buf)
	buf = buf[:pa.payload()]
	p.dueEverywhere(now)
	out := 0
	switch {
	case pa.owesHello:
		out = pa.fillHello(buf)
	case p.session.confirmed:
		out = pa.fillData(buf, now)
	}
	if out > 0 {
		pa.sent++
		p.stats.SentDatagrams++
		p.stats.SentBytes += uint64(out)
	}
	return out
}

// dueEverywhere turns what is due to be said on every path into what each path
// owes.
func (p *Peer) dueEverywhere(now int64) {
	if p.session.due <= now {
		p.said = header{}
		p.saidFlags = p.session.header(now, &p.said)
		for _, q := range p.paths {
			q.owesHello = true
		}
	}
	if p.session.confirmed && p.stateDue <= now {
		p.stateDue = forever
		p.oweBeats()
	}
}

func (pa *Path) fillHello(buf []byte) int {
	p := pa.p
	pa.owesHello = false
	p.out.seq++
	p.said.seq = p.out.seq
	m := p.n.hello()
	m.flags = p.saidFlags
	b := appendHeader(buf[:0], &p.said)
	b = appendHello(b, &m)
	return len(closeDatagram(b))
}

func (pa *Path) fillData(buf []byte, now int64) int {
	p, o := pa.p, &pa.p.out
	beat, used := pa.owesBeat || now >= pa.beat+p.beatEvery(), p.use == pa
	if used {
		o.size = len(buf)
	}
	flows := used && o.ready() <= now
	if !beat && !flows && (!used || min(p.ackDue, p.repair.due, o.round.due) > now) {
		return 0
	}
	o.seq++
	b := appendHeader(buf[:0], &header{kind: typeData, seq: o.seq, sender: p.session.my, receiver: p.session.their})
	fixed := len(b)
	if used && p.unacked > 0 || beat && p.in.highest > 0 {
		b = p.in.appendAck(b)
		if used { // by another one it may not arrive
			p.unacked, p.ackDue = 0, forever
		}
	}
	if beat {
		b = pa.heartbeat(b, now)
	}
	if used {
		b = p.repair.fill(b, len(buf)-crcLen)
		b = o.fillDigests(b, len(buf)-crcLen, now)
		b = o.fillRound(b, len(buf)-crcLen, now)
	}
	if flows {
		before := len(b)
		b = o.fill(b, len(buf)-crcLen, now)
		if o.pace.spend(len(b)-before, o.size, p.n.cfg.Rate, now) && o.waiting() > 0 {
			p.stats.Paced++
		}
	}
	if len(b) == fixed { // what waited ended meanwhile
		o.seq--
		return 0
	}
	return len(closeDatagram(b))
}

// heartbeat appends what is said on every path.
func (pa *Path) heartbeat(b []byte, now int64) []byte {
	p := pa.p
	pa.owesBeat, pa.beat = false, now
	b = appendState(b, p.n.blobV, p.theirV, p.n.blob)
	if p.up && p.gotV != p.n.blobV {
		p.stateDue = min(p.stateDue, now+stateEvery)
	}
	m := pa.report()
	return appendPath(b, &m)
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
	for prev := uint32(0); o.pace.until <= now; {
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
