// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"
	"net/netip"

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
func (d *daemon) openAccept() (err error) {
	refused := notAccepting(d.cfg)
	if len(refused) == 0 {
		return nil
	}
	if d.accept, err = loader.OpenAccept(refused); err == nil {
		d.undoing(d.accept.Close)
	}
	return err
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

// notAccepted counts what was dropped at a group's addresses.
func (d *daemon) notAccepted(g *config.Group) (n uint64) {
	if d.accept == nil || !g.NoAccept {
		return 0
	}
	for _, a := range g.Installed() {
		n += d.accept.Dropped(a.Prefix.Addr())
	}
	return n
}

// configuredWire is what the file says of a group's adverts.
func configuredWire(g *config.Group) control.VRRPWire {
	w := control.VRRPWire{NoAccept: g.NoAccept, PeerTTL: g.PeerTTL, PreemptDelayMS: ms(g.PreemptDelay), Description: g.Description}
	if g.HelloSource.IsValid() {
		w.Source = g.HelloSource.String()
	}
	for _, p := range g.Peers {
		w.Peers = append(w.Peers, p.String())
	}
	if g.Password != "" {
		w.Authentication = "plaintext-password"
	}
	if g.Version == 3 && !g.IPv6() {
		w.Checksum = cmp.Or(g.Checksum, "auto")
	}
	return w
}
