// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Stages of this file: 1 flows and their numbers, 2 what an initiator says,
// 3 what is answered to a packet. No socket, no clock.

// The two stations.
const (
	sideLAN = 0
	sideWAN = 1
)

// Sequence numbers tell the flow and the direction: the client's streams share
// one half of the space evenly, the server's the other. Of 20,000 TCP flows each
// stream has 64 KiB, which is 4,096 rounds.
const (
	clientBase = 0x10000000
	serverBase = 0x90000000
)

// crowdPayload is the size of every payload: magic, flow, round, direction.
const (
	crowdPayload = 16
	crowdMagic   = 0x74635764
)

type crowdFlow struct {
	tcp, dnat    bool
	cport, sport uint16 // the client's own port, and the server's
	peer         uint16 // the client's port as the server sees it; 0: not yet seen
	cgot, sgot   uint32 // end of what the client and the server received of the stream
	done         bool   // the round is complete
	broken       bool   // a RST came
}

type crowdMachine struct {
	mac  [2][6]byte
	addr [2][4]byte
	gw   [2][4]byte
	gwHW [2][6]byte
	gwOK [2]bool
	vip  [4]byte

	oneWay bool
	bits   int         // a stream has 1<<bits bytes
	flows  []crowdFlow // TCP first
	round  int
	left   int // flows that are not done
	res    CrowdResult
	rate   int
}

func newCrowdMachine(cfg *CrowdConfig) *crowdMachine {
	m := &crowdMachine{vip: cfg.VIP.As4(), rate: cfg.Rate, round: -1, oneWay: cfg.OneWay}
	m.bits = 31 - bits.Len(uint(cfg.TCPSNAT+cfg.TCPDNAT))
	for side, s := range []Station{cfg.LAN, cfg.WAN} {
		m.mac[side], m.addr[side], m.gw[side] = [6]byte(s.MAC), s.Addr.As4(), s.Gateway.As4()
	}
	add := func(n int, tcp, dnat bool) {
		for k := range n {
			// Up to 60,000 client ports towards 100 server ports, then the next 100;
			// none of them a client's, or the reply of a flow through DNAT might
			// be the original of one through SNAT.
			f := crowdFlow{tcp: tcp, dnat: dnat, cport: uint16(2000 + k%60000), sport: uint16(62000 + k/60000*100 + k%100)}
			if dnat {
				f.sport, f.peer = cfg.DNATPort+uint16(k%1000), f.cport
			}
			m.flows = append(m.flows, f)
		}
	}
	add(cfg.TCPSNAT, true, false)
	add(cfg.TCPDNAT, true, true)
	add(cfg.UDPSNAT, false, false)
	add(cfg.UDPDNAT, false, true)
	return m
}

// begin starts a round: 0 opens the flows.
func (m *crowdMachine) begin(round int) {
	m.round, m.left = round, len(m.flows)
	m.res = CrowdResult{Of: len(m.flows)}
	for i := range m.flows {
		m.flows[i].done = false
	}
}

func (m *crowdMachine) describe(i int) string {
	f := &m.flows[i]
	kind, way, first := "udp", "snat", "client"
	if f.tcp {
		kind = "tcp"
	}
	if f.dnat {
		way = "dnat"
	}
	if m.serverFirst(i) {
		first = "server"
	}
	return fmt.Sprintf("%s %s flow %d, client port %d seen as %d, server port %d, %s speaks first", kind, way, i, f.cport, f.peer, f.sport, first)
}

// clientSide is the station of a flow's client.
func (f *crowdFlow) clientSide() int {
	if f.dnat {
		return sideWAN
	}
	return sideLAN
}

// serverFirst says who speaks first in this round.
func (m *crowdMachine) serverFirst(i int) bool { return m.round > 0 && i%2 == 1 }

// streamSeq is the initial sequence number of a flow's stream.
func (m *crowdMachine) streamSeq(i int, server bool) uint32 {
	if server {
		return serverBase + uint32(i)<<m.bits
	}
	return clientBase + uint32(i)<<m.bits
}

// offset of a round's payload in its stream: the SYN counts one.
func offset(round int) uint32 { return uint32(1 + (round-1)*crowdPayload) }

// segment addresses a packet from the client or the server of a flow, ports
// and addresses as that end knows them.
func (m *crowdMachine) segment(i int, server bool) (s segment, side int) {
	f := &m.flows[i]
	c := f.clientSide()
	s.proto = protoUDP
	if f.tcp {
		s.proto = protoTCP
	}
	if server {
		side = 1 - c
		s.src, s.srcPort, s.dst, s.dstPort = m.addr[side], f.sport, m.vip, f.peer
		if f.dnat {
			s.dst = m.addr[c]
		}
		return s, side
	}
	s.src, s.srcPort, s.dst, s.dstPort = m.addr[c], f.cport, m.addr[1-c], f.sport
	if f.dnat {
		s.dst = m.vip
	}
	return s, c
}

// speak gives the packet that an end sends in this round: its payload, or its
// part of the handshake.
func (m *crowdMachine) speak(i int, server bool, payload *[crowdPayload]byte) (s segment, side int) {
	s, side = m.segment(i, server)
	f := &m.flows[i]
	if f.tcp {
		s.seq = m.streamSeq(i, server)
		s.ack = m.streamSeq(i, !server) + m.got(i, server)
		if m.round == 0 {
			s.flags = tcpSYN
			if server {
				s.flags |= tcpACK
			} else {
				s.ack = 0
			}
			return s, side
		}
		s.seq += offset(m.round)
		s.flags = tcpPSH | tcpACK
	}
	m.putPayload(payload, i, server)
	s.payload = payload[:]
	return s, side
}

func (m *crowdMachine) got(i int, server bool) uint32 {
	if server {
		return m.flows[i].sgot
	}
	return m.flows[i].cgot
}

// bare is an ACK without payload of all that an end received.
func (m *crowdMachine) bare(i int, server bool) (s segment, side int) {
	s, side = m.segment(i, server)
	s.flags = tcpACK
	s.seq = m.streamSeq(i, server) + offset(m.round+1)
	s.ack = m.streamSeq(i, !server) + m.got(i, server)
	return s, side
}

func (m *crowdMachine) putPayload(b *[crowdPayload]byte, i int, server bool) {
	binary.BigEndian.PutUint32(b[:], crowdMagic)
	binary.BigEndian.PutUint32(b[4:], uint32(i))
	binary.BigEndian.PutUint32(b[8:], uint32(m.round))
	b[12], b[13], b[14], b[15] = 0, 0, 0, 0
	if server {
		b[15] = 1
	}
}

// identify finds the flow of a packet and who sent it.
func (m *crowdMachine) identify(s *segment) (i int, fromServer, ok bool) {
	if s.proto == protoTCP {
		fromServer = s.seq-clientBase >= serverBase-clientBase
		i = int((s.seq - m.streamSeq(0, fromServer)) >> m.bits)
	} else {
		if len(s.payload) != crowdPayload || binary.BigEndian.Uint32(s.payload) != crowdMagic {
			return 0, false, false
		}
		i, fromServer = int(binary.BigEndian.Uint32(s.payload[4:])), s.payload[15] == 1
	}
	return i, fromServer, i < len(m.flows) && m.flows[i].tcp == (s.proto == protoTCP)
}

// expected says whether a packet bears the addresses and ports of its flow as
// its receiver knows them. The server learns the client's in round 0.
func (m *crowdMachine) expected(i int, fromServer bool, side int, s *segment) bool {
	f := &m.flows[i]
	if !fromServer && f.peer == 0 && m.round == 0 && side != f.clientSide() {
		f.peer = s.srcPort
	}
	want, from := m.segment(i, !fromServer) // what the receiver would send back
	return from == side && want.src == s.dst && want.dst == s.src && want.srcPort == s.dstPort && want.dstPort == s.srcPort
}

// receive takes a packet at a station and gives the answer, if there is one.
func (m *crowdMachine) receive(side int, s *segment, payload *[crowdPayload]byte) (out segment, reply bool) {
	i, fromServer, ok := m.identify(s)
	if !ok {
		m.res.Bad++
		return out, false
	}
	if !m.expected(i, fromServer, side, s) {
		m.res.Moved++
		return out, false
	}
	if s.flags&tcpRST != 0 {
		m.res.Resets++
		m.flows[i].broken = true
		return out, false
	}
	if m.oneWay {
		return out, false
	}
	if m.round == 0 && m.flows[i].tcp {
		return m.shake(i, fromServer, s)
	}
	return m.take(i, fromServer, s, payload)
}

// shake is the three-way handshake. The flow is open when the server has the
// last ACK.
func (m *crowdMachine) shake(i int, fromServer bool, s *segment) (out segment, reply bool) {
	f := &m.flows[i]
	switch {
	case !fromServer && s.flags == tcpSYN:
		f.sgot = 1
		out, _ = m.speak(i, true, nil)
		return out, true
	case fromServer && s.flags == tcpSYN|tcpACK:
		f.cgot = 1
		out, _ = m.bare(i, false)
		return out, true
	case !fromServer && s.flags == tcpACK:
		m.finish(i)
	}
	return out, false
}

// take checks a payload and answers it: a response to a first word, an ACK to
// a response.
func (m *crowdMachine) take(i int, fromServer bool, s *segment, payload *[crowdPayload]byte) (out segment, reply bool) {
	if len(s.payload) == 0 {
		return out, false // a bare ACK
	}
	m.putPayload(payload, i, fromServer)
	if string(s.payload) != string(payload[:]) {
		if s.proto == protoUDP || len(s.payload) != crowdPayload {
			m.res.Bad++
		}
		return out, false // TCP: a late packet of the round before
	}
	f := &m.flows[i]
	if f.tcp {
		end := offset(m.round) + crowdPayload
		if fromServer {
			f.cgot = end
		} else {
			f.sgot = end
		}
	}
	if fromServer == m.serverFirst(i) {
		out, _ = m.speak(i, !fromServer, payload)
		return out, true
	}
	m.finish(i)
	if f.tcp {
		out, _ = m.bare(i, !fromServer)
		return out, true
	}
	return out, false
}

func (m *crowdMachine) finish(i int) {
	if f := &m.flows[i]; !f.done && !f.broken {
		f.done = true
		m.left--
		m.res.Answered++
	}
}

// arp answers for the station's address and follows its gateway.
func (m *crowdMachine) arp(side int, p arpPacket) (answer []byte) {
	if p.srcIP == m.gw[side] {
		m.gwHW[side], m.gwOK[side] = p.srcMAC, true
	}
	if p.op == arpRequest && p.dst == m.addr[side] {
		return buildARP(arpReply, p.srcMAC, m.mac[side], m.addr[side], p.srcIP)
	}
	return nil
}
