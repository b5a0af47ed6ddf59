// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Lose makes a switch drop a share of all frames that a router sends into it or
// gets from it, by chance; 0 heals it. A switch has one router with loss.
func (r *Router) Lose(sw string, percent int) error {
	if percent < 0 || percent > 100 {
		return fmt.Errorf("lose %d %% of frames: want 0 to 100", percent)
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(r.lab.Switch.handle)))
	if err != nil {
		return fmt.Errorf("open nftables in %q: %w", r.lab.Switch.Name, err)
	}
	// Add, delete, add: the first makes the deletion legal.
	t := &nftables.Table{Name: "loss-" + sw, Family: nftables.TableFamilyBridge}
	c.AddTable(t)
	c.DelTable(t)
	if percent > 0 {
		c.AddTable(t)
		fwd := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
		for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
			exprs := append(ifName(key, r.port(sw)),
				&expr.Numgen{Register: 1, Modulus: 100, Type: unix.NFT_NG_RANDOM},
				&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binaryutil.BigEndian.PutUint32(uint32(percent))},
				&expr.Verdict{Kind: expr.VerdictDrop})
			// A random number is in the host's order: compare it in the wire's.
			exprs = append(exprs[:3:3], append([]expr.Any{&expr.Byteorder{
				SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4}}, exprs[3:]...)...)
			c.AddRule(&nftables.Rule{Table: t, Chain: fwd, Exprs: exprs})
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("lose %d %% on %s: %w", percent, r.port(sw), err)
	}
	return nil
}

// RefuseUDP adds a rule that drops UDP to a port of the router itself: the
// ruleset of somebody who forgot the sync link.
func (r *Router) RefuseUDP(port uint16) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(r.NS.handle)))
	if err != nil {
		return fmt.Errorf("open nftables in %q: %w", r.NS.Name, err)
	}
	t := c.AddTable(&nftables.Table{Name: ruleTable, Family: nftables.TableFamilyIPv4})
	in := c.AddChain(&nftables.Chain{Name: "input", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("refuse UDP %d on %s: %w", port, r.Name, err)
	}
	return nil
}
