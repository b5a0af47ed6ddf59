// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/vip"
	"github.com/tandem-ha/tandem/loader"
	"github.com/tandem-ha/tandem/vrrp"
)

// checksums are the words of the configuration; none for what was never heard.
var checksums = map[vrrp.Checksum]string{vrrp.ChecksumPseudoHeader: config.ChecksumPseudo, vrrp.ChecksumMessage: config.ChecksumPlain}

// openAccept lets the virtual addresses of groups without accept-mode accept
// nothing, from before the first election to after the last.
func (d *daemon) openAccept() error {
	d.undoing(d.accept.close)
	return d.accept.refuse(notAccepting(d.cfg))
}

// acceptance is there from the first address that accepts nothing.
type acceptance struct {
	mu    sync.Mutex
	rules *loader.Accept // nil: every virtual address accepts
}

// refuse makes these the addresses that accept nothing.
func (a *acceptance) refuse(addrs []netip.Addr) (err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.rules != nil:
		return a.rules.Refuse(addrs)
	case len(addrs) > 0:
		a.rules, err = loader.OpenAccept(addrs)
	}
	return err
}

// dropped counts what was dropped at addresses.
func (a *acceptance) dropped(addrs []config.Address) (n uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, v := range addrs {
		if a.rules != nil {
			n += a.rules.Dropped(v.Prefix.Addr())
		}
	}
	return n
}

func (a *acceptance) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rules == nil {
		return nil
	}
	return a.rules.Close()
}

// notAccepting are the addresses of groups without accept-mode.
func notAccepting(cfg *config.Config) (out []netip.Addr) {
	for i := range cfg.VRRP.Groups {
		if g := &cfg.VRRP.Groups[i]; g.NoAccept && !g.Disable {
			for _, a := range g.Installed() {
				out = append(out, a.Prefix.Addr())
			}
		}
	}
	return out
}

// virtualMACs are the devices of virtual MACs: what is forwarded leaves by their
// parents.
func virtualMACs(cfg *config.Config) (out []string) {
	for i := range cfg.VRRP.Groups {
		if g := &cfg.VRRP.Groups[i]; g.VirtualMAC {
			out = append(out, (&vip.MAC{Parent: g.Interface, VRID: g.VRID, V6: g.IPv6()}).Name())
		}
	}
	return out
}

// captureExclude are the interfaces that the capture leaves out.
func captureExclude(cfg *config.Config) []string {
	return slices.Concat(cfg.Capture.Exclude, virtualMACs(cfg))
}

// notAccepted counts what was dropped at a group's addresses.
func (d *daemon) notAccepted(g *config.Group) uint64 {
	if !g.NoAccept {
		return 0
	}
	return d.accept.dropped(g.Installed())
}

// configuredWire is what the file says of a group's adverts.
func configuredWire(g *config.Group) control.VRRPWire {
	w := control.VRRPWire{NoAccept: g.NoAccept, PreemptDelayMS: ms(g.PreemptDelay), Description: g.Description}
	if g.HelloSource.IsValid() {
		w.Source = g.HelloSource.String()
	}
	for _, p := range g.Peers {
		w.Peers = append(w.Peers, control.VRRPPeer{Address: p.Addr.String(), TTL: p.TTL})
	}
	if g.Password != "" {
		w.Authentication = "plaintext-password"
	}
	if g.Version == 3 && !g.IPv6() {
		w.Checksum = cmp.Or(g.Checksum, "auto")
	}
	return w
}
