// SPDX-License-Identifier: Apache-2.0

package load

import "encoding/binary"

// receive takes a packet at a station; what is answered goes into p.
func (m *churnMachine) receive(side int, s *segment, now int64, p *packets) {
	slot, ok := m.identify(side, s)
	if !ok {
		m.res.Bad++
		return
	}
	l := &m.lives[slot]
	cport, sport := l.ports()
	switch {
	case side == sideLAN && (s.dstPort != cport || s.srcPort != sport), side == sideWAN && s.dstPort != sport, l.client == phaseNone:
		m.res.Late++
		return
	case side == sideLAN && s.src != m.addr[sideWAN], side == sideWAN && (s.src != m.vip || l.peer != 0 && l.peer != s.srcPort):
		m.res.Moved++
		return
	}
	if s.flags&tcpRST != 0 {
		m.reset(side, slot)
		return
	}
	if side == sideWAN {
		m.serve(slot, s, now, p)
	} else {
		m.hearServer(slot, s, now, p)
	}
}

// identify finds the slot of a packet, by its sequence number or its payload.
func (m *churnMachine) identify(side int, s *segment) (slot uint32, ok bool) {
	switch {
	case s.proto == protoTCP && s.seq-clientBase < serverBase-clientBase:
		slot, ok = (s.seq-clientBase)>>churnBits, side == sideWAN
	case s.proto == protoTCP:
		slot, ok = (s.seq-serverBase)>>churnBits, side == sideLAN
	case len(s.payload) == crowdPayload && binary.BigEndian.Uint32(s.payload) == churnMagic:
		slot, ok = binary.BigEndian.Uint32(s.payload[4:]), true
	}
	return slot, ok && slot < uint32(len(m.lives)) && m.cfg.UDP == (s.proto == protoUDP)
}

func (m *churnMachine) reset(side int, slot uint32) {
	if side == sideLAN {
		m.res.Client.Reset++
	} else {
		m.res.Server.Reset++
	}
	m.complain(slot, "reset")
	m.end(slot)
}

// wordOf checks a payload and gives its number. Every byte is foretold.
func (m *churnMachine) wordOf(slot uint32, s *segment, fromServer bool) (word uint8, ok bool) {
	if len(s.payload) != crowdPayload {
		return 0, false
	}
	word = s.payload[14]
	var want [crowdPayload]byte
	m.put(&want, slot, word, fromServer)
	at := churnSeq(slot, fromServer) + 1 + uint32(word)*crowdPayload
	return word, string(want[:]) == string(s.payload) && int(word) < m.cfg.Words && (m.cfg.UDP || s.seq == at)
}

// serve is the server: SYN, the handshake's last word, words, FIN, last ACK.
func (m *churnMachine) serve(slot uint32, s *segment, now int64, p *packets) {
	l := &m.lives[slot]
	if l.server == phaseNone && (m.cfg.UDP || s.flags == tcpSYN) {
		l.server, l.peer = phaseShake, s.srcPort
		m.res.Server.Born++
		if m.cfg.UDP {
			l.server = phaseTalk
		}
	}
	switch {
	case s.flags == tcpSYN:
		if l.server == phaseShake {
			p.add(m.make(slot, true, tcpSYN|tcpACK))
		}
		return
	case l.server == phaseNone:
		m.res.Bad++ // a router that lets this pass does not track
		return
	case l.server == phaseShake:
		l.server = phaseTalk
		m.res.Server.Open++
		m.stamp(now)
		if m.cfg.Words == 0 {
			m.res.Server.Answered++
		}
		m.rest(l)
	}
	switch {
	case len(s.payload) > 0:
		m.answer(slot, s, p)
	case s.flags&tcpFIN != 0:
		if l.server == phaseTalk {
			l.server = phaseLeave
		}
		p.add(m.make(slot, true, tcpFIN|tcpACK))
	case l.server == phaseLeave && s.ack == churnSeq(slot, true)+2+uint32(l.sgot)*crowdPayload:
		l.server = phaseGone
		m.res.Server.Closed++
		m.end(slot)
	}
}

// answer takes a word at the server and responds to it, again if need be.
func (m *churnMachine) answer(slot uint32, s *segment, p *packets) {
	l := &m.lives[slot]
	word, ok := m.wordOf(slot, s, false)
	if !ok || word > l.sgot {
		m.res.Bad++
		return
	}
	if word == l.sgot {
		l.sgot++
		m.res.Server.Bytes += crowdPayload
		if int(l.sgot) == m.cfg.Words {
			m.res.Server.Answered++
		}
	}
	m.word(p, slot, true, word)
}

// hearServer is the client.
func (m *churnMachine) hearServer(slot uint32, s *segment, now int64, p *packets) {
	l := &m.lives[slot]
	switch {
	case s.flags == tcpSYN|tcpACK:
		fresh := l.client == phaseShake
		if fresh {
			l.client = phaseTalk
			m.res.Client.Open++
		}
		if l.client == phaseTalk || l.client == phaseIdle {
			p.add(m.make(slot, false, tcpACK))
		}
		if fresh {
			m.goOn(slot, now, p)
		}
	case len(s.payload) > 0:
		m.heard(slot, s, now, p)
	case s.flags&tcpFIN != 0 && l.client >= phaseLeave:
		if l.client == phaseLeave {
			l.client = phaseGone
			m.res.Client.Closed++
		}
		p.add(m.make(slot, false, tcpACK))
	}
}

// heard takes a response at the client.
func (m *churnMachine) heard(slot uint32, s *segment, now int64, p *packets) {
	l := &m.lives[slot]
	word, ok := m.wordOf(slot, s, true)
	switch {
	case !ok || word > l.cgot || l.client < phaseTalk:
		m.res.Bad++
	case word == l.cgot:
		l.cgot++
		m.res.Client.Bytes += crowdPayload
		if m.cfg.UDP && word == 0 {
			m.stamp(now)
		}
		if ends := l.due || m.cfg.Life == 0; !m.cfg.UDP && (int(l.cgot) < m.cfg.Words || !ends) {
			p.add(m.make(slot, false, tcpACK)) // else the FIN acknowledges it
		}
		m.goOn(slot, now, p)
	case !m.cfg.UDP:
		p.add(m.make(slot, false, tcpACK)) // heard twice
	}
}

// goOn has the client say its next word, rest, or leave.
func (m *churnMachine) goOn(slot uint32, now int64, p *packets) {
	l := &m.lives[slot]
	if int(l.cgot) < m.cfg.Words {
		m.word(p, slot, false, l.cgot)
		return
	}
	l.client = phaseIdle
	m.res.Client.Answered++
	switch {
	case m.cfg.UDP:
		m.end(slot)
	case l.due || m.cfg.Life == 0:
		m.leave(slot, now, p)
	default:
		m.rest(l)
	}
}

// rest settles a flow that nobody ends, once both ends have all they will get.
func (m *churnMachine) rest(l *life) {
	if m.cfg.Life < 0 && l.client == phaseIdle && l.server == phaseTalk {
		m.settle(l)
	}
}

func (m *churnMachine) stamp(now int64) {
	if m.cfg.Stamps {
		m.res.At = append(m.res.At, now)
	}
}
