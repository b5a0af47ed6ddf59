// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// Addresses of the lab, those of the guide (shared/facts/guide.md).
var (
	LANVIP     = netip.MustParsePrefix("10.0.0.1/24")
	WANVIP     = netip.MustParsePrefix("203.0.113.1/24")
	ClientAddr = netip.MustParsePrefix("10.0.0.10/24")
	ServerAddr = netip.MustParsePrefix("203.0.113.10/24")
	// LANCrowd and WANCrowd belong to no namespace: stations that a packet
	// generator plays (see Lab.Station).
	LANCrowd = netip.MustParsePrefix("10.0.0.50/24")
	WANCrowd = netip.MustParsePrefix("203.0.113.50/24")
)

// Their like of IPv6, with Options.IPv6. Hosts of the LAN are routed by LANVIP6's
// router, LANRouter6: link-local, as router advertisements have it.
var (
	LANRouter6  = netip.MustParsePrefix("fe80::10/64")
	LANVIP6     = netip.MustParsePrefix("2001:db8:a::1/64")
	WANRouter6  = netip.MustParsePrefix("fe80::20/64")
	WANVIP6     = netip.MustParsePrefix("2001:db8:b::1/64")
	ClientAddr6 = netip.MustParsePrefix("2001:db8:a::10/64")
	ServerAddr6 = netip.MustParsePrefix("2001:db8:b::10/64")
)

// Ports of the WAN VIP that are translated to LAN hosts, TCP and UDP, the port
// unchanged.
const (
	DNATHostFirst, DNATHostLast   = 20000, 20999 // to ClientAddr
	DNATCrowdFirst, DNATCrowdLast = 21000, 31999 // to LANCrowd
)

// NAT is how the routers translate what leaves the LAN.
type NAT int

// Kinds of source translation. With SNATRandom a flow that had to be made anew
// has another port, so no flow survives by luck.
const (
	SNATRandom NAT = iota // to the WAN VIP, ports fully random
	SNATPlain             // to the WAN VIP, ports kept where free
	Masquerade            // to the router's own WAN address: flows strand
	NoNAT
)

// Options of a lab. The zero value is the guide's pair.
type Options struct {
	Keep string // not empty: the lab is called so and outlives the process until RemoveKept
	NAT  NAT
	IPv6 bool // beside IPv4 on the LAN and the WAN, with the same rules and translations
	DMZ  bool // a third network without a group: eth3 on 172.16.0.2/.3, host "dmz" 172.16.0.10 routed by .2

	// Third is a third router, and a sync link that is a switch: a router without
	// power costs nobody the carrier. No Relay fits in.
	Third bool
}

// Lab is a built pair. Its methods may be called from any goroutine; faults of
// one router must not overlap.
type Lab struct {
	Prefix         string
	Switch         *Namespace // the three switches
	Client, Server *Namespace // the host on the LAN, the host on the WAN
	DMZ            *Namespace // nil unless asked for
	R1, R2         *Router
	R3             *Router // nil unless asked for

	opts  Options
	ports ports
	relay atomic.Pointer[Relay] // in the sync link; nil: none
	once  sync.Once
	err   error
}

// roles are the ends of namespaces' names.
var roles = []string{"sw", "client", "server", "dmz", "r1", "r2", "r3"}

// New builds a lab, after having removed what killed runs left. On failure
// nothing stays.
func New(opts Options) (*Lab, error) {
	if err := os.MkdirAll(nsDir, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", nsDir, err)
	}
	if _, err := Sweep(); err != nil {
		return nil, fmt.Errorf("sweep leftovers of killed runs: %w", err)
	}
	l := &Lab{Prefix: labPrefix(opts.Keep), opts: opts}
	for _, name := range Names() {
		if isRole(name, l.Prefix) {
			return nil, fmt.Errorf("build lab: namespace %q exists: take the lab down first", name)
		}
	}
	register(l)
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("build lab %s: %w", l.Prefix, err), l.Close())
	}
	return l, nil
}

// TB is what ForTest needs of a testing.TB.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
}

// ForTest builds a lab that ends with the test, SIGINT and SIGTERM included.
func ForTest(t TB, opts Options) *Lab {
	t.Helper()
	closeOnSignal()
	l, err := New(opts)
	if err != nil {
		t.Fatalf("netlab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Logf("netlab: %v", err)
		}
	})
	return l
}

// Routers lists both routers, or all three.
func (l *Lab) Routers() []*Router {
	if l.opts.Third {
		return []*Router{l.R1, l.R2, l.R3}
	}
	return []*Router{l.R1, l.R2}
}

// IPv6 says whether the lab has it.
func (l *Lab) IPv6() bool { return l.opts.IPv6 }

// Other gives the other router of a pair.
func (l *Lab) Other(r *Router) *Router {
	if r == l.R1 {
		return l.R2
	}
	return l.R1
}

// Close kills what runs in the lab and removes its namespaces and all that was
// in them. It may be called more than once.
func (l *Lab) Close() error {
	l.once.Do(func() {
		all := []*Namespace{l.Client, l.Server, l.DMZ, l.Switch}
		for _, r := range l.Routers() {
			if r != nil {
				all = append(all, r.NS)
			}
		}
		for _, n := range all {
			if n != nil {
				sendAll(n.PIDs(), unix.SIGKILL)
			}
		}
		for _, n := range all {
			if n != nil {
				n.KillAll()
				l.err = errors.Join(l.err, n.remove())
			}
		}
		unregister(l)
	})
	return l.err
}

// Release forgets a kept lab without taking it down.
func (l *Lab) Release() { unregister(l) }

var open struct {
	sync.Mutex
	labs map[*Lab]bool
	once sync.Once
}

func register(l *Lab) {
	open.Lock()
	defer open.Unlock()
	if open.labs == nil {
		open.labs = map[*Lab]bool{}
	}
	open.labs[l] = true
}

func unregister(l *Lab) {
	open.Lock()
	defer open.Unlock()
	delete(open.labs, l)
}

// CloseAll closes every lab of this process that is open.
func CloseAll() (err error) {
	open.Lock()
	var labs []*Lab
	for l := range open.labs {
		labs = append(labs, l)
	}
	open.Unlock()
	for _, l := range labs {
		err = errors.Join(err, l.Close())
	}
	return err
}

// closeOnSignal makes SIGINT and SIGTERM close every lab before they kill, for
// test binaries, which have no main of their own to do it.
func closeOnSignal() {
	open.once.Do(func() {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
		go func() {
			s := <-c
			_ = CloseAll()
			signal.Reset()
			_ = unix.Kill(os.Getpid(), s.(syscall.Signal))
		}()
	})
}
