// SPDX-License-Identifier: Apache-2.0

package syncproto

// FillCall writes the datagram that is sent to everybody on a link without
// configured peers: it says only that a node lives at its source address.
// Sessions begin with the hello that whoever hears it sends back.
func (n *Node) FillCall(buf []byte) int {
	b := appendHeader(buf[:0], &header{kind: typeCall})
	m := n.hello()
	return len(closeDatagram(appendHello(b, &m)))
}

// Called says whether payload is a call of a node that speaks with us.
func Called(payload []byte) bool {
	if len(payload) < headerLen || payload[3] != typeCall {
		return false // without a look at the checksum: nearly all datagrams are data
	}
	var h header
	var m hello
	body, err := parseDatagram(payload, &h)
	return err == nil && h.kind == typeCall && onlyHello(body, &m) && m.spoken()
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
