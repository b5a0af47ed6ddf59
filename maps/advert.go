// SPDX-License-Identifier: Apache-2.0

package maps

import (
	"errors"
	"net/netip"
	"unsafe"

	"github.com/tandem-ha/tandem/bpf"
	"github.com/tandem-ha/tandem/conntrack"
)

var errAdvertRecord = errors.New("parse advert record: wrong size or family")

// Advert is one received packet of IP protocol 112. At is kernel time,
// CLOCK_MONOTONIC in nanoseconds, taken at TC ingress. Payload is the VRRP PDU
// as it stands in the ring: valid during the drain's call only, and empty if
// the packet was shorter than it said or its PDU longer than 1416 bytes.
type Advert struct {
	At          int64
	IfIndex     uint32
	Family, TTL uint8
	Src, Dst    netip.Addr
	Payload     []byte
}

// ParseAdvert reads a record of tandem_advert. It does not allocate.
func ParseAdvert(rec []byte) (Advert, error) {
	size := int(unsafe.Sizeof(bpf.AdvertRecord{}))
	if len(rec) < size {
		return Advert{}, errAdvertRecord
	}
	r := (*bpf.AdvertRecord)(unsafe.Pointer(&rec[0]))
	if r.Family != conntrack.IPv4 && r.Family != conntrack.IPv6 || int(r.Len) > len(rec)-size {
		return Advert{}, errAdvertRecord
	}
	return Advert{
		At:      fromKernel(r.At),
		IfIndex: r.Ifindex,
		Family:  r.Family,
		TTL:     r.Ttl,
		Src:     addr(&r.Src).IP(r.Family),
		Dst:     addr(&r.Dst).IP(r.Family),
		Payload: rec[size : size+int(r.Len)],
	}, nil
}
