// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/conntrack"
)

// reader takes values off a slice; after the first that is missing all are
// zero and bad stays set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return make16[:n]
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

var make16 [16]byte

func (r *reader) byte() byte  { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.BigEndian.Uint16(r.take(2)) }
func (r *reader) u32() uint32 { return binary.BigEndian.Uint32(r.take(4)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || r.bad {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) addr(size int) (a conntrack.Addr) {
	copy(a[:], r.take(size))
	return a
}

// parseFlow reads the flow record at the start of b, whose class is not
// control, and gives what follows it.
func parseFlow(b []byte, prev uint32, rec *flowRecord) ([]byte, error) {
	r := reader{b: b}
	h := r.byte()
	slot := unzigzag(r.uvarint(), prev)
	if r.bad || slot < 0 || slot>>1 >= maxEntries {
		return nil, errRecord
	}
	rec.class, rec.slot = h&classMask, uint32(slot)
	rec.owner, rec.heat = h&headOwner != 0, h&headHeatMask>>headHeatShift
	ok := false
	switch rec.class {
	case classFull:
		ok = r.full(h, rec)
	case classShort:
		ok = r.short(h, rec)
	case classDelete:
		ok = h&deleteReserved == 0
	}
	if !ok || r.bad {
		return nil, errRecord
	}
	return r.b, nil
}

func (r *reader) full(h byte, rec *flowRecord) bool {
	f := &rec.flow
	*f = conntrack.Flow{Family: kind(rec.slot & 1).family()}
	switch h & fullProtoMask >> fullProtoShift {
	case protoTCP:
		f.Proto = unix.IPPROTO_TCP
	case protoUDP:
		f.Proto = unix.IPPROTO_UDP
	case protoICMP:
		f.Proto = icmpOf(rec.slot)
	case protoOther:
		f.Proto = r.byte()
	}
	mask := r.byte()
	size := addrLen(rec.slot)
	f.Orig.Src, f.Orig.Dst = r.addr(size), r.addr(size)
	f.Orig.SrcPort, f.Orig.DstPort = r.u16(), r.u16()
	r.reply(f, mask, size)
	if mask&fullMark != 0 {
		f.Mark = r.u32()
	}
	if mask&fullZone != 0 {
		f.Zone, f.ZoneDir = r.zone()
	}
	f.Status = conntrack.Status(defaultStatus(f))
	if mask&fullStatus != 0 {
		f.Status = conntrack.Status(r.u16())&statusKept | conntrack.Confirmed
	}
	var d detail
	if mask&fullTimeout != 0 {
		f.Timeout = r.timeout()
	}
	if h&fullDetail != 0 {
		d = r.detail()
	}
	d.put(f)
	if mask&fullTimeout == 0 {
		f.Timeout = defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status))
	}
	return d.fits(f.Proto)
}

func (r *reader) reply(f *conntrack.Flow, mask byte, size int) {
	f.Reply = conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src}
	f.Reply.SrcPort, f.Reply.DstPort = inversePorts(f)
	if mask&fullReplyDst != 0 {
		f.Reply.Dst = r.addr(size)
	}
	if mask&fullReplyDstPort != 0 {
		f.Reply.DstPort = r.u16()
	}
	if mask&fullReplySrc != 0 {
		f.Reply.Src = r.addr(size)
	}
	if mask&fullReplySrcPort != 0 {
		f.Reply.SrcPort = r.u16()
	}
}

// zone reads a zone and its direction; zone 0 has no field.
func (r *reader) zone() (uint16, conntrack.ZoneDir) {
	v := r.uvarint()
	if v>>2 == 0 || v>>2 > 1<<16-1 || v&3 == 3 {
		r.bad = true
	}
	return uint16(v >> 2), conntrack.ZoneDir(v & 3)
}

// timeout reads seconds; more than 32 bits of them are malformed.
func (r *reader) timeout() uint32 {
	v := r.uvarint()
	if v > 1<<32-1 {
		r.bad = true
	}
	return uint32(v)
}

// detail is that of TCP and SCTP as it came, before the protocol is known.
type detail struct {
	head         byte
	present      bool
	flags, scale uint8
	vtag         [2]uint32
}

func (r *reader) detail() (d detail) {
	d = detail{head: r.byte(), present: true, flags: defaultFlags, scale: defaultScale}
	if d.head&detailFlags != 0 {
		d.flags = r.byte()
	}
	if d.head&detailScale != 0 {
		d.scale = r.byte()
	}
	if d.head&detailVTags != 0 {
		d.vtag = [2]uint32{r.u32(), r.u32()}
	}
	if d.head&detailReserved != 0 {
		r.bad = true
	}
	return d
}

// fits says whether a flow of that protocol may have the detail.
func (d *detail) fits(proto uint8) bool {
	switch {
	case !d.present:
		return true
	case proto == unix.IPPROTO_TCP:
		return d.head&detailVTags == 0 && d.head&detailState <= byte(conntrack.TCPSynSent2)
	case proto == unix.IPPROTO_SCTP:
		return d.head&(detailFlags|detailScale) == 0
	}
	return false
}

// put writes the detail, or its default, into a flow. One that does not fit is
// taken for absent.
func (d *detail) put(f *conntrack.Flow) {
	f.TCP, f.SCTP = conntrack.TCP{}, conntrack.SCTP{}
	m := mutable{state: d.head & detailState, flags: d.flags, scale: d.scale, vtag: d.vtag}
	if !d.present || !d.fits(f.Proto) {
		m = mutable{}
		if f.Proto == unix.IPPROTO_TCP {
			m = mutable{state: defaultState, flags: defaultFlags, scale: defaultScale}
		}
	}
	m.mark, m.timeout, m.status = f.Mark, f.Timeout, uint16(f.Status)
	m.put(f)
}

func (r *reader) short(h byte, rec *flowRecord) bool {
	if h&shortReserved != 0 {
		return false
	}
	var mask byte
	if h&shortMask != 0 {
		mask = r.byte()
	}
	rec.mark, rec.detail = 0, detail{}
	if mask&shortMark != 0 {
		rec.mark = r.u32()
	}
	if rec.hasStatus = mask&shortStatus != 0; rec.hasStatus {
		rec.status = uint16(conntrack.Status(r.u16())&statusKept | conntrack.Confirmed)
	}
	if rec.hasTimeout = mask&shortTimeout != 0; rec.hasTimeout {
		rec.timeout = r.timeout()
	}
	if h&shortDetail != 0 {
		rec.detail = r.detail()
	}
	return mask&^byte(shortKnown) == 0
}

// resolve lays a short record over f, the flow of its slot.
func (rec *flowRecord) resolve(f *conntrack.Flow) {
	f.Mark = rec.mark
	f.Status = conntrack.Status(defaultStatus(f))
	if rec.hasStatus {
		f.Status = conntrack.Status(rec.status)
	}
	rec.detail.put(f)
	f.Timeout = rec.timeout
	if !rec.hasTimeout {
		f.Timeout = defaultTimeout(f.Proto, uint8(f.TCP.State), uint16(f.Status))
	}
}
