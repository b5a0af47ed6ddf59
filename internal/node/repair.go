// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/flowdiff"
	"github.com/tandem-ha/tandem/syncproto"
)

// Resync has everything exchanged again.
func (b *backend) Resync(peer string) (asked []string, err error) {
	if b.d.sync == nil {
		return nil, errNotKept
	}
	known := false
	b.d.sync.replica.locked(func(now int64) {
		for _, p := range b.d.sync.replica.node.Peers() {
			if peer != "" && peer != p.Name() {
				continue
			}
			known = true
			if p.Resync(now) {
				asked = append(asked, p.Name())
			}
		}
	})
	switch {
	case !known && peer != "":
		return nil, fmt.Errorf("resync with %q: no peer has that name (tandem sync show lists them)", peer)
	case len(asked) == 0:
		return nil, fmt.Errorf("resync: no peer is heard; a peer that comes back gets what it lacks by itself")
	}
	for _, name := range asked {
		b.d.stream.Publish(event.Event{Kind: event.Peer, Subject: name, Text: "everything is exchanged with " + name + " again: an operator asked for it"})
	}
	return asked, nil
}

// copies shows what the node holds to flowdiff.
type copies struct{ *replica }

func (c copies) Look(keys []conntrack.Key, held []flowdiff.Held) {
	c.node.Lock()
	defer c.node.Unlock()
	now := c.now()
	for i := range keys {
		h := &held[i]
		var sure bool
		h.HasOwn, sure = c.node.OwnFlow(&keys[i], &h.Own)
		h.OwnWaits, h.Views = !sure, h.Views[:0]
		for _, p := range c.node.Peers() {
			v := flowdiff.ViewFlow{Peer: p.Name()}
			var found bool
			if v.Age, v.Former, found = p.View().Flow(&keys[i], &v.Flow, now); found {
				h.Views = append(h.Views, v)
			}
		}
	}
}

func (c copies) Keys(source int, from uint32, max int, fn func(k *conntrack.Key)) (uint32, bool) {
	c.node.Lock()
	defer c.node.Unlock()
	if source == 0 {
		return c.node.OwnKeys(from, max, fn), true
	}
	if peers := c.node.Peers(); source <= len(peers) {
		return peers[source-1].View().Keys(from, max, fn), true
	}
	return 0, false
}

// diffLimit bounds a comparison.
const diffLimit = 2 * time.Minute

// writeTime is how long the committer may take for a flow that came of age.
const writeTime = time.Second

// FlowDiff compares own flows and views with the kernel table, then own flows
// with the peers' copies.
func (b *backend) FlowDiff(ctx context.Context) (out control.FlowDiff, err error) {
	if b.d.sync == nil {
		return out, errNotKept
	}
	ctx, cancel := context.WithTimeout(ctx, diffLimit)
	defer cancel()
	t, err := conntrack.Open()
	if err != nil {
		return out, fmt.Errorf("open the kernel table: %w", err)
	}
	defer t.Close()
	begun := time.Now()
	r, err := flowdiff.Run(ctx, t, copies{b.d.sync.replica}, b.diffRules())
	if err != nil {
		return out, err
	}
	filter, err := control.NewFilter(control.FlowQuery{}, b.local())
	if err != nil {
		return out, err
	}
	out = control.FlowDiff{Kernel: r.Kernel, Copies: r.Copies, More: r.More, Differences: []control.FlowDifference{}}
	for i := range r.Differences {
		d := &r.Differences[i]
		shown := control.FlowDifference{What: d.What}
		filter.Show(&d.Flow, &shown.Flow)
		shown.Flow.Source, shown.Flow.Peer = d.Copy, d.Peer // the same words
		out.Differences = append(out.Differences, shown)
	}
	out.Peers, err = b.comparePeers(ctx)
	out.TookMS = ms(time.Since(begun))
	return out, err
}

func (b *backend) diffRules() func() flowdiff.Rules {
	local := b.local()
	own := func(a netip.Addr) bool { return local(a) || virtual(b.d.config(), a) }
	r := b.d.sync.replica
	return func() flowdiff.Rules {
		r.node.Lock()
		active := r.active
		r.node.Unlock()
		return flowdiff.Rules{
			Policy:  b.d.cfg.Sync.Policy,
			Passes:  func(f *conntrack.Flow) bool { return passes(f, own) },
			Written: active || b.d.cfg.Sync.Commit == config.CommitContinuous,
			After:   b.d.cfg.Sync.CommitAfter + writeTime,
		}
	}
}

// comparePeers has every peer compare its copy. What differs is asked twice,
// since a digest of the rotation may be about to heal it.
func (b *backend) comparePeers(ctx context.Context) ([]control.PeerDiff, error) {
	out := []control.PeerDiff{}
	n := b.d.sync.replica.node
	n.Lock()
	peers := slices.Clone(n.Peers())
	n.Unlock()
	for _, p := range peers {
		d, err := b.comparePeer(ctx, p)
		if err == nil && d.Differing > 0 {
			if err = pause(ctx, time.Second); err == nil {
				d, err = b.comparePeer(ctx, p)
			}
		}
		if err != nil {
			return out, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (b *backend) comparePeer(ctx context.Context, p *syncproto.Peer) (out control.PeerDiff, err error) {
	begun := false
	b.d.sync.replica.locked(func(now int64) { out.Peer, begun = p.Name(), p.Compare(now) })
	if !begun {
		out.Why = out.Peer + " is not heard"
		return out, nil
	}
	var c syncproto.Comparison
	for !c.Done {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return out, err
		}
		up := false
		b.d.sync.replica.locked(func(int64) { c, up = p.Compared(), p.Up() })
		if !up {
			out.Why = out.Peer + " fell silent"
			return out, nil
		}
	}
	out.Ranges, out.Same, out.Differing, out.Refused = c.Ranges, c.Same, c.Differing, c.Refused
	out.Busy, out.Unanswered, out.Flows, out.Where = c.Busy, c.Unanswered, c.Flows, []control.RangeDiff{}
	if c.Unanswered > 0 {
		out.Why = fmt.Sprintf("%s did not answer for %d of %d ranges: is it of an older version?", out.Peer, c.Unanswered, c.Ranges)
	}
	for _, w := range c.Where {
		family := "ipv4"
		if w.Family == conntrack.IPv6 {
			family = "ipv6"
		}
		out.Where = append(out.Where, control.RangeDiff{Family: family, First: w.First, Last: w.Last, Here: w.Here, There: w.There})
	}
	return out, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
