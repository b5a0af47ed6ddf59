// SPDX-License-Identifier: Apache-2.0

package node

import (
	"cmp"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/vrrp"
)

// checksums are the words of the configuration; none for what was never heard.
var checksums = map[vrrp.Checksum]string{vrrp.ChecksumPseudoHeader: config.ChecksumPseudo, vrrp.ChecksumMessage: config.ChecksumPlain}

// configuredWire is what the file says of a group's adverts.
func configuredWire(g *config.Group) control.VRRPWire {
	w := control.VRRPWire{PeerTTL: g.PeerTTL, PreemptDelayMS: ms(g.PreemptDelay), Description: g.Description}
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
