// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Station is one end of a crowd: a packet socket on a switch port behind which
// there is no kernel. The crowd answers ARP there, and learns where its gateway
// went from gratuitous ARP alone, as a host does that has an entry for it.
type Station struct {
	FD      int // AF_PACKET, SOCK_RAW, bound; closed by Crowd.Close
	MAC     net.HardwareAddr
	Addr    netip.Addr
	Gateway netip.Addr // where all frames go: the virtual address of this side
}

// StationFilter keeps what a station must see from its socket: ARP, and IPv4 to
// its address.
func StationFilter(addr netip.Addr) ([]bpf.RawInstruction, error) {
	a := addr.As4()
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_ARP, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 30, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3]), SkipTrue: 1},
		bpf.RetConstant{Val: frameMax},
		bpf.RetConstant{Val: 0},
	})
}

// CrowdConfig describes a crowd of flows between a LAN and a WAN station.
type CrowdConfig struct {
	LAN, WAN Station
	VIP      netip.Addr // the WAN's virtual address: SNAT to it, DNAT from it
	DNATPort uint16     // the first of 1000 ports of VIP that are translated to LAN.Addr

	// How many flows of each kind: at most 2,000,000 through SNAT, 60,000 through
	// DNAT, and 1,000,000 of TCP (whose streams then have room for 127 rounds).
	UDPSNAT, UDPDNAT, TCPSNAT, TCPDNAT int

	Rate int // flows per second that are opened or spoken to, default 15,000

	// OneWay: the server never answers, and every flow is spoken to once. Open
	// is then a SYN flood, or UDP that nobody wants.
	OneWay bool
}

func (c *CrowdConfig) check() error {
	tcp, snat, dnat := c.TCPSNAT+c.TCPDNAT, c.UDPSNAT+c.TCPSNAT, c.UDPDNAT+c.TCPDNAT
	if min(c.UDPSNAT, c.UDPDNAT, c.TCPSNAT, c.TCPDNAT) < 0 || snat+dnat < 1 || tcp > 1_000_000 || snat > 2_000_000 || dnat > 60_000 {
		return fmt.Errorf("make crowd: %d flows through SNAT, %d through DNAT, %d of them TCP: out of range", snat, dnat, tcp)
	}
	return nil
}

// CrowdResult is what the crowd's endpoints counted in one exchange.
type CrowdResult struct {
	Of       int
	Answered int // flows on which a payload went both ways, each byte right
	Moved    int // packets from an address or port that is not the flow's
	Resets   int // TCP RSTs received
	Bad      int // packets with a wrong checksum or payload
	Passes   int // how often the unanswered were spoken to
	Took     time.Duration
	Missing  []string // the first few that did not answer
}

func (r CrowdResult) String() string {
	return fmt.Sprintf("%d of %d answered in %s, %d passes, moved %d, resets %d, bad %d",
		r.Answered, r.Of, r.Took.Round(time.Millisecond), r.Passes, r.Moved, r.Resets, r.Bad)
}

// Crowd is many flows without a socket each: UDP exchanges, and TCP connections
// whose segments it makes itself, in order, so that the routers' strict
// tracking finds nothing wrong with them.
type Crowd struct {
	m    *crowdMachine
	fds  [2]int
	jobs chan *job
	quit chan struct{}
	done chan struct{}

	churns chan *churnJob
	mu     sync.Mutex
	soFar  ChurnResult
}

type job struct {
	round int
	end   time.Time
	ctx   context.Context
	reply chan CrowdResult
}

// NewCrowd prepares a crowd; no packet leaves before Open.
func NewCrowd(cfg CrowdConfig) (*Crowd, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Rate == 0 {
		cfg.Rate = defaultRate
	}
	return newCrowd(cfg), nil
}

const defaultRate = 15000

func newCrowd(cfg CrowdConfig) *Crowd {
	c := &Crowd{
		m: newCrowdMachine(&cfg), fds: [2]int{cfg.LAN.FD, cfg.WAN.FD},
		jobs: make(chan *job), churns: make(chan *churnJob), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go c.loop()
	return c
}

// Open makes all flows: TCP handshakes, and one UDP exchange each that the
// client begins.
func (c *Crowd) Open(ctx context.Context, limit time.Duration) (CrowdResult, error) {
	return c.run(ctx, 0, limit)
}

// Exchange has every flow exchange a payload in both directions. On half of
// them the server speaks first. What is not answered is spoken to again until
// the limit.
func (c *Crowd) Exchange(ctx context.Context, limit time.Duration) (CrowdResult, error) {
	return c.run(ctx, c.m.round+1, limit)
}

// run must not be called twice at the same time: c.m.round is read here while
// the loop is between jobs.
func (c *Crowd) run(ctx context.Context, round int, limit time.Duration) (CrowdResult, error) {
	j := &job{round: round, end: time.Now().Add(limit), ctx: ctx, reply: make(chan CrowdResult, 1)}
	select {
	case c.jobs <- j:
	case <-c.done:
		return CrowdResult{}, errors.New("crowd is closed")
	}
	select {
	case r := <-j.reply:
		return r, ctx.Err()
	case <-c.done:
		return CrowdResult{}, errors.New("crowd was closed")
	}
}

// Close ends the crowd. Its flows are left as they are: nobody says goodbye.
func (c *Crowd) Close() error {
	select {
	case <-c.done:
		return nil
	default:
	}
	close(c.quit)
	<-c.done
	return errors.Join(unix.Close(c.fds[0]), unix.Close(c.fds[1]))
}
