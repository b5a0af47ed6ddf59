// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
	"github.com/tandem-ha/tandem/vrrp"
)

// advertFloodRate is how many adverts a second come from the LAN, to both
// routers together.
const advertFloodRate = 100_000

// TestAdvertFlood: a host of the LAN sends adverts as fast as it can: nonsense,
// damaged ones, those of other groups and versions, and good ones of a lower
// priority from many addresses. Nobody changes role, no advert of ours is late,
// neither memory nor the log grows with them, and a takeover in the middle
// breaks nothing. (Whoever may send to the segment can end a role: RFC 9568 has
// no authentication. That is not what is tried here.)
func TestAdvertFlood(t *testing.T) {
	s := play(t, netlab.Options{}, drill.PairOptions{}, load.Mix{Steady: 10, UDP: 20}, 0)
	r1, r2 := s.Lab.R1, s.Lab.R2
	calm := s.lateness(r1, 2*time.Second)
	before, memory := [2]control.Status{s.status(r1), s.status(r2)}, [2]int{s.memory(r1), s.memory(r2)}
	log := [2]int{s.logged(r1), s.logged(r2)}

	frames := strayAdverts(r1)
	f := startFlood(t, s.Lab, advertFloodRate, map[string][][]byte{"lan.r1": frames, "lan.r2": frames})
	storm := s.lateInFlood(r1, 4*time.Second, calm)
	t.Logf("adverts of r1 late: at rest p50 %d, p99 %d, max %d us; in the flood p50 %d, p99 %d, max %d us; %.0f adverts/s, %d asked for",
		calm[0], calm[1], calm[2], storm[0], storm[1], storm[2], f.rate(), advertFloodRate)
	if f.rate() < advertFloodRate/10 {
		t.Errorf("%.0f adverts/s are no flood", f.rate())
	}
	for i, r := range s.Lab.Routers() {
		st := s.status(r)
		for j := range st.Sets {
			if b, a := &before[i].Sets[j], &st.Sets[j]; a.Role != b.Role || a.Since.Truncate(time.Second) != b.Since.Truncate(time.Second) {
				t.Errorf("%s: %s was %s since %v, is %s since %v", r.Name, a.Name, b.Role, b.Since, a.Role, a.Since)
			}
		}
		was, is := before[i].Groups[0].Counters, st.Groups[0].Counters
		t.Logf("%s: %d adverts of the group counted, %d checksums, %d hop limits; %d KiB more, %d lines of log", r.Name,
			is.AdvertRcvd-was.AdvertRcvd, is.ChecksumErrors-was.ChecksumErrors, is.TTLErrors-was.TTLErrors,
			s.memory(r)-memory[i], s.logged(r)-log[i])
		if is.ChecksumErrors == was.ChecksumErrors || is.TTLErrors == was.TTLErrors || is.VersionErrors == was.VersionErrors {
			t.Errorf("%s counted nothing: %+v", r.Name, is)
		}
		if grown := s.memory(r) - memory[i]; grown > 16<<10 {
			t.Errorf("%s has grown by %d KiB", r.Name, grown)
		}
		if lines := s.logged(r) - log[i]; lines > 100 {
			t.Errorf("%s has written %d lines", r.Name, lines)
		}
	}
	at, err := r1.PowerOff()
	if err != nil {
		t.Fatal(err)
	}
	s.mark(at)
	s.become(r2, control.RoleActive, 10*time.Second)
	time.Sleep(time.Second)
	s.judge("power cut in the flood")
}

// strayAdverts are frames of a host in the LAN, of each kind.
func strayAdverts(r *netlab.Router) (frames [][]byte) {
	rng := rand.New(rand.NewPCG(1, 2))
	vip := netlab.LANVIP.Addr().AsSlice()
	for range 64 {
		src := netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + rng.IntN(100))})
		m := vrrp.Meta{Src: src, Dst: vrrp.Group4, TTL: vrrp.TTL}
		good := vrrp.Advert{Version: 3, VRID: 10, Priority: uint8(1 + rng.IntN(90)), Interval: int64(100 * time.Millisecond), Addresses: vip}
		other := good
		other.VRID = uint8(11 + rng.IntN(200))
		damaged := good.Append(nil, vrrp.ChecksumAuto, m)
		damaged[6] ^= 0x40
		short := good.Append(nil, vrrp.ChecksumAuto, m)
		old := append([]byte{0x21}, damaged[1:]...)
		noise := make([]byte, 1+rng.IntN(60))
		for i := range noise {
			noise[i] = byte(rng.Uint32())
		}
		send := func(pdu []byte, ttl byte) {
			frames = append(frames, ipFrame([6]byte{1, 0, 0x5e, 0, 0, 0x12}, [6]byte{2, 0, 0, 0, 9, 9}, src, vrrp.Group4, vrrp.Protocol, ttl, pdu))
		}
		send(good.Append(nil, vrrp.ChecksumAuto, m), 255)
		send(good.Append(nil, vrrp.ChecksumAuto, m), 254)
		send(other.Append(nil, vrrp.ChecksumAuto, m), 255)
		send(damaged, 255)
		send(short[:10], 255)
		send(old, 255)
		send(noise, 255)
	}
	rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
	return frames
}

// memory is what a router's daemon and its children hold, KiB.
func (s *scene) memory(r *netlab.Router) (kib int) {
	s.t.Helper()
	for _, pid := range r.NS.PIDs() {
		text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil {
			continue // it ended
		}
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
				n, err := strconv.Atoi(strings.Fields(v)[0])
				if err != nil {
					s.t.Fatal(err)
				}
				kib += n
			}
		}
	}
	return kib
}

// logged counts the lines that a router's daemon has written.
func (s *scene) logged(r *netlab.Router) int { return strings.Count(s.Process(r).Tail(), "\n") }
