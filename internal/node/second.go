// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/vrrp"
)

// The second path: an Active says in its state whether its adverts leave
// (sending), and a Backup keeps the moment of its latest word where the
// election can look at it without asking (vouch).

var secondPaths = map[config.SecondPath]vrrp.SecondPath{config.SecondPathOff: vrrp.SecondPathOff,
	config.SecondPathAlarm: vrrp.SecondPathAlarm, config.SecondPathHold: vrrp.SecondPathHold}

const (
	slowestHeartbeat = 50 * time.Millisecond
	fastestHeartbeat = 5 * time.Millisecond
)

// heartbeat is half an advert's interval, within bounds: the election believes
// a word of the second path for one interval.
func (d *daemon) heartbeat() time.Duration {
	beat := slowestHeartbeat
	for _, g := range d.followedGroups() {
		beat = min(beat, max(g.AdvertInterval/2, fastestHeartbeat))
	}
	return beat
}

func (d *daemon) followedGroups() (out []config.Group) {
	cfg := d.config()
	for _, member := range members(cfg, d.election.followed) {
		for _, g := range cfg.VRRP.Groups {
			if g.Name == member {
				out = append(out, g)
			}
		}
	}
	return out
}

// sending watches whether the adverts of the followed set leave: every group
// Active, its counter of adverts moving, nothing refused by the kernel. It
// reads shared memory, so a child that hangs is noticed as well.
type sending struct {
	d    *daemon
	seen map[string]sent
	said bool
}

// sent is what one group had sent when its counter moved last.
type sent struct {
	adverts, errors uint64
	at              int64
}

func (s *sending) String() string { return "second path" }

func (s *sending) Run(ctx context.Context) error {
	s.seen = map[string]sent{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(s.d.heartbeat(), 20*time.Millisecond)):
		}
		s.d.election.mu.Lock()
		proc := s.d.election.proc
		s.d.election.mu.Unlock()
		if proc == nil {
			continue
		}
		if on := s.look(proc.Status().Groups, monotonic()); on != s.said {
			s.said = on
			s.d.sync.runner.Post(takeover.Event{Kind: takeover.EvSending, On: on})
		}
	}
}

// look says whether every group of the followed set sends.
func (s *sending) look(groups []adverts.GroupStatus, now int64) bool {
	all := false
	for _, g := range s.d.followedGroups() {
		for i := range groups {
			if groups[i].Name != g.Name {
				continue
			}
			if !s.sends(&groups[i], g.AdvertInterval, now) {
				return false
			}
			all = true
		}
	}
	return all
}

func (s *sending) sends(g *adverts.GroupStatus, interval time.Duration, now int64) bool {
	before := s.seen[g.Name]
	n := sent{adverts: g.Counters.SentAdvertisements, errors: g.Counters.SendErrors, at: before.at}
	refused := n.errors != before.errors
	switch {
	case g.State != vrrp.Active:
		n.at = 0
	case n.adverts != before.adverts && !refused:
		n.at = now
	}
	s.seen[g.Name] = n
	// Two intervals: a peer's Active_Down_Interval is three and more.
	return !refused && n.at != 0 && now-n.at <= 2*int64(interval)
}

// startVouching gives the replica the way to the election.
func (r *replica) startVouching(to func(at int64)) {
	r.node.Lock()
	defer r.node.Unlock()
	r.vouch = to
}

// vouches finds the latest word of a peer that is Active and sends adverts;
// 0: none does. The lock is held.
func (r *replica) vouches() (at int64) {
	for _, p := range r.node.Peers() {
		if p.Up() && r.sends[p] {
			at = max(at, p.Heard())
		}
	}
	return at
}
