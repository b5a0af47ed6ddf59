// SPDX-License-Identifier: Apache-2.0

package syncproto

// FillCall writes the datagram that is sent where nobody is known yet, to an
// address or to everybody: it says only that a node of this name lives at its
// source address. Sessions begin with the hellos that whoever hears it sends.
// asks: one of the receiver is wanted, since it is not heard.
func (n *Node) FillCall(buf []byte, asks bool) int {
	b := appendHeader(buf[:0], &header{kind: typeCall})
	m := n.hello()
	if asks {
		m.flags |= helloAsks
	}
	return len(closeDatagram(appendHello(b, &m)))
}

// Who is what a call or a hello says of its sender.
type Who struct {
	Name     string
	Call     bool // not a hello
	Asks     bool // the caller does not hear this node
	Self     bool // it is this node's own, come back
	Namesake bool // another node has this node's name, or that of a peer that is up
}

// Who says who sent payload, if it is a call or a hello of a node that speaks
// with us.
func (n *Node) Who(payload []byte) (w Who, ok bool) {
	if len(payload) < headerLen || payload[3] != typeCall && payload[3] != typeHello {
		return w, false // without a look at the checksum: nearly all datagrams are data
	}
	var h header
	var m hello
	body, err := parseDatagram(payload, &h)
	if err != nil || h.kind == typeData || !onlyHello(body, &m) || !m.spoken() {
		return w, false
	}
	w = Who{Name: m.name, Call: h.kind == typeCall, Asks: m.flags&helloAsks != 0}
	if m.name != "" && m.name == n.cfg.Name {
		w.Self = m.bootID == n.cfg.BootID && m.netns == n.cfg.NetNS
		w.Namesake = !w.Self
	} else if p := n.Named(m.name); p != nil && p.up { // one that rebooted was silent meanwhile
		w.Namesake = m.bootID != p.hello.bootID || m.netns != p.hello.netns
	}
	return w, true
}

// Named gives the peer of that name, nil if there is none.
func (n *Node) Named(name string) *Peer {
	for _, p := range n.peers {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

func (n *Node) hello() hello {
	return hello{
		minVersion: formatVersion, maxVersion: formatVersion,
		bootID: n.cfg.BootID, netns: n.cfg.NetNS, name: n.cfg.Name,
	}
}

// spoken says whether there is a version of the format that both speak.
func (m *hello) spoken() bool {
	return m.minVersion <= formatVersion && m.maxVersion >= formatVersion
}
