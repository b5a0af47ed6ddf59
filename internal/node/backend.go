// SPDX-License-Identifier: Apache-2.0

package node

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
)

// backend shows the daemon through the control socket.
type backend struct {
	d     *daemon
	watch *watch // set once, before anything runs
}

func newBackend(d *daemon) *backend {
	b := &backend{d: d}
	b.watch = newWatch(b)
	return b
}

func (b *backend) Events() *event.Stream { return b.d.stream }

// Status is the whole picture.
func (b *backend) Status() control.Status {
	d := b.d
	s := control.Status{Node: d.cfg.Node.Name, Version: d.version, Config: absolute(d.cfg.Path), Started: d.started,
		Now: time.Now(), Groups: b.VRRP(), Sync: b.Sync(), Alarms: []control.Alarm{}}
	cfg := d.config()
	d.election.mu.Lock()
	for _, name := range setNames(cfg) {
		set := *d.election.set(name)
		set.Member, set.Waiting = members(cfg, name), b.waiting(&set)
		s.Sets = append(s.Sets, set)
	}
	for _, a := range d.election.alarms {
		s.Alarms = append(s.Alarms, a)
	}
	s.Maintenance = d.election.aside
	d.election.mu.Unlock()
	s.Alarms = append(s.Alarms, b.watch.alarms()...)
	byAge(s.Alarms)
	s.Adverts, s.Strays = b.adverts(), b.strays()
	if d.sync == nil {
		return s
	}
	s.Capture = b.capture()
	table := d.sync.shown.count()
	s.Table = &table
	rs := d.sync.runner.Status()
	s.Fence = b.fence(rs)
	s.Last = timeline(d.election.followed, rs)
	return s
}

// absolute is a path for whoever has another working directory.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// setNames are the sets in the order of their first groups, the followed one first.
func setNames(cfg *config.Config) (out []string) {
	if f := followed(cfg); f != "" {
		out = append(out, f)
	}
	for _, name := range config.Names(cfg.VRRP.Sets()) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func members(cfg *config.Config, set string) []string {
	for _, s := range cfg.VRRP.SyncGroups {
		if s.Name == set {
			return s.Member
		}
	}
	return []string{set}
}

// proc is nil until the election has started.
func (b *backend) proc() *adverts.Process {
	b.d.election.mu.Lock()
	defer b.d.election.mu.Unlock()
	return b.d.election.proc
}

// VRRP is every configured group.
func (b *backend) VRRP() []control.VRRPGroup {
	live := map[string]adverts.GroupStatus{}
	if p := b.proc(); p != nil {
		for _, g := range p.Status().Groups {
			live[g.Name] = g
		}
	}
	out := []control.VRRPGroup{}
	for _, g := range b.d.config().VRRP.Groups {
		v := configuredGroup(g)
		v.NotAccepted = b.d.notAccepted(&g)
		if s, ok := live[g.Name]; ok {
			fillGroup(&v, s)
			v.Counters.ReleasedActive = b.d.election.released(v.Set)
			v.Waiting = b.setWaits(v.Set)
			v.Tracked = b.d.tracking.things(g.Name)
			v.Maintenance = b.d.election.asideSince()
			v.Taken, v.TakenWhy = b.d.election.reception.way(v.Interface)
		}
		out = append(out, v)
	}
	return out
}

func configuredGroup(g config.Group) control.VRRPGroup {
	v := control.VRRPGroup{Name: g.Name, Set: g.Name, Interface: g.Interface, VRID: g.VRID, Version: g.Version,
		Role: control.RoleInitialize, Priority: g.Priority, EffectivePriority: g.Priority, Preempt: !g.NoPreempt,
		AdvertMS: ms(g.AdvertInterval), Addresses: []string{}}
	if g.Disable {
		v.Role = control.RoleDisabled
	}
	for _, a := range g.Addresses {
		v.Addresses = append(v.Addresses, a.Prefix.String())
	}
	for _, a := range g.Excluded {
		v.Excluded = append(v.Excluded, a.Prefix.String())
	}
	v.VirtualMAC = g.VirtualMAC
	v.VRRPWire = configuredWire(&g)
	return v
}

func fillGroup(v *control.VRRPGroup, s adverts.GroupStatus) {
	now := monotonic()
	v.Set, v.Role, v.EffectivePriority = s.Set, s.State.String(), s.Priority
	v.InterfaceUp = !strings.HasPrefix(s.Reason, "interface "+s.Interface+" ") // the fault of another member is not its own
	v.Since = time.Now().Add(-time.Duration(now - s.Since))
	v.Installed = s.AddressesIn
	if s.Active.IsValid() {
		v.ActiveAddress, v.ActivePriority, v.ActiveMS = s.Active.String(), s.ActivePriority, ms(s.ActiveInterval)
	}
	interval := v.ActiveMS
	if interval == 0 {
		interval = v.AdvertMS
	}
	v.ActiveDownMS = interval * (3 + float64(256-int(s.Priority))/256)
	if v.Checksum != "" {
		v.ChecksumSent, v.ChecksumHeard = checksums[s.Checksum], checksums[s.PeerChecksum]
	}
	v.Counters = vrrpCounters(s.Counters)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (b *backend) adverts() *control.AdvertHealth {
	p := b.proc()
	if p == nil {
		return nil
	}
	s := p.Status()
	h := &control.AdvertHealth{PID: p.PID(), Sent: s.Sent.Count(),
		LateMax: float64(s.Sent.Max)}
	// A quantile is the upper bound of its bucket.
	h.LateP50, h.LateP99 = min(float64(s.Sent.Quantile(0.5)), h.LateMax), min(float64(s.Sent.Quantile(0.99)), h.LateMax)
	h.SentLate, h.DecidedLate = histogram(&s.Sent), histogram(&s.Decided)
	b.d.election.mu.Lock()
	h.RealTime = b.d.election.health == ""
	b.d.election.mu.Unlock()
	h.Rung = b.d.election.reception.sum(advertInterfaces(b.d.config()))
	return h
}

// strays are what came in on an interface and belongs to no group.
func (b *backend) strays() (out []control.VRRPStray) {
	p := b.proc()
	if p == nil {
		return nil
	}
	for _, i := range p.Status().Interfaces {
		c := i.Counters
		out = append(out, control.VRRPStray{Interface: i.Name, Dropped: map[string]uint64{"truncated": c.Truncated,
			"version": c.VersionErrors, "type": c.InvalidType, "vrid": c.VRIDErrors, "source": c.SourceErrors,
			"malformed": c.ReceiveDropped}})
	}
	return out
}

func histogram(h *adverts.Histogram) *control.Histogram {
	return &control.Histogram{BoundsUS: adverts.Bounds[:], Buckets: h.Buckets[:], SumUS: h.Sum}
}

func (b *backend) fence(rs takeover.Status) *control.Fence {
	f := b.d.sync.fence
	out := &control.Fence{Kind: f.Kind(), Up: rs.Fenced, Dropped: map[string]uint64{}}
	if rs.Fenced && len(rs.Records) > 0 {
		out.Since = wall(rs.Records[len(rs.Records)-1].FenceUp)
	}
	fenceDrops(out.Dropped, f.Stats())
	return out
}

// wall turns a moment of CLOCK_MONOTONIC into one of the wall clock.
func wall(at int64) time.Time { return time.Now().Add(-time.Duration(monotonic() - at)) }

// timeline is the newest takeover.
func timeline(set string, rs takeover.Status) *control.Timeline {
	if len(rs.Records) == 0 {
		return nil
	}
	t := recordLine(set, &rs.Records[len(rs.Records)-1])
	return &t
}

func recordLine(set string, r *takeover.Record) control.Timeline {
	first := "advert out"
	if set == externalSet {
		first = "told"
	}
	t := control.Timeline{Set: set, Kind: "takeover", Reason: r.Cause, Start: wall(r.Decided), Committed: int(r.Flows), Evidence: r.Evidence}
	for _, s := range []struct {
		name string
		at   int64
	}{{first, r.Decided}, {"fence up", r.FenceUp}, {"addresses in", r.AddressesIn}, {"committed", r.Committed}, {"fence down", r.FenceDown}} {
		if s.at != 0 {
			t.Steps = append(t.Steps, control.Step{Name: s.name, AtMS: ms(time.Duration(s.at - r.Decided))})
		}
	}
	slices.SortStableFunc(t.Steps, func(x, y control.Step) int {
		switch {
		case x.AtMS < y.AtMS:
			return -1
		case x.AtMS > y.AtMS:
			return 1
		}
		return 0
	})
	return t
}
