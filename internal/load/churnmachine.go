// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Stages of this file: 1 lives and their numbers, 2 what is due, 3 what the
// server answers, 4 what the client answers. No socket, no clock.

// Server ports of a churn. A crowd's client ports begin at 2000, so that a
// packet's place in the port numbers tells the two apart.
const (
	churnPorts     = 100
	churnPortsEnd  = 2000
	churnClients   = 2000 // the first client port
	churnClientMax = 60000
	churnBits      = 10 // a stream has 1<<churnBits sequence numbers
	churnMagic     = 0x74636375
)

// Phases of one end of a flow.
const (
	phaseNone  = iota
	phaseShake // client: SYN sent; server: SYN/ACK sent
	phaseTalk
	phaseIdle  // client: all words done
	phaseLeave // FIN sent
	phaseGone
)

// life is one flow, at both ends. The slot it sits in is its place in the
// sequence space; its number gives the ports, fresh for a hundred million flows.
type life struct {
	n              uint32
	peer           uint16 // the client's port as the server sees it; 0: not yet seen
	client, server uint8  // phases
	cgot, sgot     uint8  // words received
	due, settled   bool   // its time has come; nothing more is expected
}

// timer is a moment at which a life is looked at again.
type timer struct {
	at    int64
	slot  uint32
	n     uint32
	phase uint16 // client's and server's of when it was set
	words uint8
}

// fifo is a queue of timers that all run equally long.
type fifo struct {
	q    []timer
	head int
}

func (f *fifo) push(t timer) { f.q = append(f.q, t) }

func (f *fifo) pop(now int64) (t timer, ok bool) {
	if f.head == len(f.q) || f.q[f.head].at > now {
		return t, false
	}
	t = f.q[f.head]
	if f.head++; f.head > len(f.q)/2 && f.head > 1024 {
		f.q = f.q[:copy(f.q, f.q[f.head:])]
		f.head = 0
	}
	return t, true
}

// patience is how long each try waits, in ns: TCP's initial retransmission
// timeout in Linux, doubled each time.
var patience = [...]int64{200e6, 400e6, 800e6, 1600e6, 3000e6, 3000e6}

type churnMachine struct {
	cfg  ChurnConfig
	addr [2][4]byte
	vip  [4]byte

	first   uint32 // number of the first life
	lives   []life
	free    []uint32
	ends    fifo                // when lives are over
	retries [len(patience)]fifo // when to speak again, by try
	began   int64
	last    int64 // birth
	alive   int
	pending int // flows of which something is still expected
	stopped bool
	res     ChurnResult
}

func newChurnMachine(cfg ChurnConfig, m *crowdMachine, first uint32, now int64) *churnMachine {
	return &churnMachine{cfg: cfg, addr: m.addr, vip: m.vip, first: first, began: now, last: now}
}

// ports of a life: no two of churnClientMax*(churnPortsEnd-churnPorts) agree.
func (l *life) ports() (client, server uint16) {
	r := l.n % churnClientMax
	const span = churnPortsEnd - churnPorts
	return uint16(churnClients + r), uint16(churnPorts + (l.n/churnClientMax+r)%span)
}

// isChurn says whether a packet that came to a station belongs to a churn.
func isChurn(side int, s *segment) bool {
	port := s.dstPort
	if side == sideLAN {
		port = s.srcPort
	}
	return port >= churnPorts && port < churnPortsEnd
}

func churnSeq(slot uint32, server bool) uint32 {
	if server {
		return serverBase + slot<<churnBits
	}
	return clientBase + slot<<churnBits
}

// make addresses a packet of one end of a life. An end has sent as many words as
// it has received, except for one that it is about to send.
func (m *churnMachine) make(slot uint32, server bool, flags byte) (s segment) {
	l := &m.lives[slot]
	cport, sport := l.ports()
	words, phase, heardFIN := l.cgot, l.client, l.client == phaseGone
	s.src, s.srcPort, s.dst, s.dstPort = m.addr[sideLAN], cport, m.addr[sideWAN], sport
	if server {
		words, phase, heardFIN = l.sgot, l.server, l.server >= phaseLeave
		s.src, s.srcPort, s.dst, s.dstPort = m.addr[sideWAN], sport, m.vip, l.peer
	}
	if s.proto = protoUDP; m.cfg.UDP {
		return s
	}
	s.proto, s.flags, s.seq = protoTCP, flags, churnSeq(slot, server)
	if flags&tcpSYN == 0 {
		s.seq += 1 + uint32(words)*crowdPayload
	}
	if flags&tcpFIN == 0 && phase >= phaseLeave {
		s.seq++
	}
	if flags&tcpACK != 0 {
		s.ack = churnSeq(slot, !server) + 1 + uint32(words)*crowdPayload
		if heardFIN {
			s.ack++
		}
	}
	return s
}

func (m *churnMachine) put(b *[crowdPayload]byte, slot uint32, word uint8, server bool) {
	binary.BigEndian.PutUint32(b[:], churnMagic)
	binary.BigEndian.PutUint32(b[4:], slot)
	binary.BigEndian.PutUint32(b[8:], m.lives[slot].n)
	b[12], b[13], b[14], b[15] = 0, 0, word, 0
	if server {
		b[15] = 1
	}
}

// packets are what one end sends at a time.
type packets struct {
	n       int
	seg     [2]segment
	payload [2][crowdPayload]byte
}

func (p *packets) add(s segment) {
	p.seg[p.n] = s
	p.n++
}

// word adds a payload.
func (m *churnMachine) word(p *packets, slot uint32, server bool, word uint8) {
	s := m.make(slot, server, tcpPSH|tcpACK)
	if !m.cfg.UDP {
		s.seq = churnSeq(slot, server) + 1 + uint32(word)*crowdPayload
	}
	m.put(&p.payload[p.n], slot, word, server)
	s.payload = p.payload[p.n][:]
	p.add(s)
}

// due gives the next packet that nobody asked for: an end of life, a packet
// sent again, a birth. side says who sends it.
func (m *churnMachine) due(now int64, p *packets) (side int, ok bool) {
	for {
		t, found := m.ends.pop(now)
		if !found {
			break
		}
		if l := &m.lives[t.slot]; l.n == t.n {
			l.due = true
			if l.client == phaseIdle {
				m.leave(t.slot, now, p)
				return sideLAN, true
			}
		}
	}
	for try := range m.retries {
		for {
			t, found := m.retries[try].pop(now)
			if !found {
				break
			}
			if side, ok := m.again(t, try, now, p); ok {
				return side, true
			}
		}
	}
	return sideLAN, m.birth(now, p)
}

func (m *churnMachine) birth(now int64, p *packets) bool {
	born := m.res.Client.Born
	if m.stopped || m.cfg.Total > 0 && born == m.cfg.Total || now-m.began < int64(born)*int64(time.Second)/int64(m.cfg.Rate) {
		return false
	}
	var slot uint32
	switch {
	case len(m.free) > 0:
		slot = m.free[len(m.free)-1]
		m.free = m.free[:len(m.free)-1]
	case len(m.lives) == churnMost:
		return false
	default:
		slot = uint32(len(m.lives))
		m.lives = append(m.lives, life{})
	}
	m.lives[slot] = life{n: m.first + uint32(born), client: phaseShake}
	m.res.Client.Born++
	m.last = now
	m.alive++
	m.pending++
	m.res.Most = max(m.res.Most, m.alive)
	if m.cfg.UDP {
		m.lives[slot].client = phaseTalk
		m.word(p, slot, false, 0)
	} else {
		p.add(m.make(slot, false, tcpSYN))
	}
	if m.cfg.Life > 0 {
		m.ends.push(timer{at: now + int64(m.cfg.Life), slot: slot, n: m.lives[slot].n})
	}
	m.watch(slot, 0, now)
	return true
}

// watch sees to it that somebody speaks again when the flow stands still.
func (m *churnMachine) watch(slot uint32, try int, now int64) {
	l := &m.lives[slot]
	m.retries[try].push(timer{at: now + patience[try], slot: slot, n: l.n, phase: uint16(l.client)<<8 | uint16(l.server), words: l.cgot})
}

// again repeats what was said last if the flow still stands where it stood.
func (m *churnMachine) again(t timer, try int, now int64, p *packets) (side int, ok bool) {
	l := &m.lives[t.slot]
	if l.n != t.n || !m.waits(l) {
		return 0, false
	}
	if t.phase != uint16(l.client)<<8|uint16(l.server) || t.words != l.cgot {
		m.watch(t.slot, 0, now)
		return 0, false
	}
	if try+1 == len(patience) {
		m.res.Lost++
		m.complain(t.slot, "lost")
		m.end(t.slot)
		return 0, false
	}
	m.watch(t.slot, try+1, now)
	m.res.Resent++
	switch {
	case l.client == phaseShake:
		p.add(m.make(t.slot, false, tcpSYN))
	case l.client == phaseTalk:
		m.word(p, t.slot, false, l.cgot)
	case l.client == phaseIdle: // the last word of the handshake got lost, and there was no other
		p.add(m.make(t.slot, false, tcpACK))
	case l.client == phaseLeave:
		p.add(m.make(t.slot, false, tcpFIN|tcpACK))
	default:
		p.add(m.make(t.slot, true, tcpFIN|tcpACK))
		return sideWAN, true
	}
	return sideLAN, true
}

// waits says whether a flow needs an answer to go on.
func (m *churnMachine) waits(l *life) bool {
	if l.client == phaseIdle {
		return !m.cfg.UDP && l.server < phaseTalk
	}
	return l.client != phaseNone && (l.client != phaseGone || l.server != phaseGone)
}

// leave sends the client's FIN.
func (m *churnMachine) leave(slot uint32, now int64, p *packets) {
	p.add(m.make(slot, false, tcpFIN|tcpACK))
	m.lives[slot].client = phaseLeave
	m.watch(slot, 0, now)
}

func (m *churnMachine) complain(slot uint32, what string) {
	if len(m.res.Missing) < 10 {
		l := &m.lives[slot]
		c, s := l.ports()
		m.res.Missing = append(m.res.Missing, fmt.Sprintf("flow %d %s: client port %d seen as %d, server port %d, client in phase %d, server in %d, words %d/%d",
			l.n-m.first, what, c, l.peer, s, l.client, l.server, l.cgot, l.sgot))
	}
}

// settle: nothing more is expected of a flow, for now at least.
func (m *churnMachine) settle(l *life) {
	if !l.settled {
		l.settled = true
		m.pending--
	}
}

// end frees the slot.
func (m *churnMachine) end(slot uint32) {
	l := &m.lives[slot]
	m.settle(l)
	l.client, l.server = phaseNone, phaseNone
	m.alive--
	m.free = append(m.free, slot)
}

// over says whether nothing is left to do.
func (m *churnMachine) over() bool {
	return m.pending == 0 && (m.stopped || m.cfg.Total > 0 && m.res.Client.Born == m.cfg.Total)
}
