// SPDX-License-Identifier: Apache-2.0

package hooks

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/event"
)

// state is what transition scripts are called for.
type state string

// States, in tandem's words.
const (
	active state = "active" // the role is this node's, and the addresses are in
	backup state = "backup"
	fault  state = "fault" // it cannot have the role
	stop   state = "stop"  // the daemon stops, or is gone
)

// notifyWord is the state in the words that keepalived gives its notify scripts.
var notifyWord = map[state]string{active: "MASTER", backup: "BACKUP", fault: "FAULT", stop: "STOP"}

// job is one script to run. One without a program marks the end of an event's.
type job struct {
	argv  []string
	env   []string
	name  string // of the group or sync group
	state state
	seq   uint64 // of the event
}

// set is what changes state together.
type set struct {
	groups   []config.Group
	sync     *config.SyncGroup // nil: a group that is in none
	promoted *event.RoleData   // Active, and the addresses are not known to be in yet
	ran      state             // for which scripts ran last
}

// planner turns events into scripts. It is pure.
type planner struct {
	node string
	sets map[string]*set
	all  []string // in the order of the file
}

func newPlanner(cfg *config.Config) *planner {
	p := &planner{node: cfg.Node.Name, sets: map[string]*set{}}
	add := func(name string, s *set) {
		p.sets[name] = s
		p.all = append(p.all, name)
	}
	grouped := map[string]bool{}
	for i := range cfg.VRRP.SyncGroups {
		s := &set{sync: &cfg.VRRP.SyncGroups[i]}
		for _, g := range cfg.VRRP.Groups {
			if slices.Contains(s.sync.Member, g.Name) {
				grouped[g.Name] = true
				s.groups = append(s.groups, g)
			}
		}
		add(s.sync.Name, s)
	}
	for _, g := range cfg.VRRP.Groups {
		if !g.Disable && !grouped[g.Name] {
			add(g.Name, &set{groups: []config.Group{g}})
		}
	}
	return p
}

// take gives the scripts that an event is for: those of the members in the order
// of the file, then the sync group's. A state whose scripts ran last is not run
// for again: a snapshot tells what is known already.
func (p *planner) take(e *event.Event) []job {
	s := p.sets[e.Subject]
	if s == nil {
		return nil
	}
	switch e.Kind {
	case event.Role:
		d, ok := event.DataOf[event.RoleData](e)
		s.promoted = nil
		switch {
		case !ok:
			return nil
		case d.To == "Active":
			s.promoted = &d
			return nil
		case d.To == "Backup":
			return p.enter(s, backup, &d, e.Seq)
		case d.Stopped:
			return p.enter(s, stop, &d, e.Seq)
		}
		return p.enter(s, fault, &d, e.Seq)
	case event.Address:
		if d, ok := event.DataOf[event.AddressData](e); ok && d.In && s.promoted != nil {
			return p.enter(s, active, s.promoted, e.Seq)
		}
	}
	return nil
}

// gone gives the scripts for a daemon that ended without a word of some set.
func (p *planner) gone() (jobs []job) {
	for _, name := range p.all {
		s := p.sets[name]
		s.promoted = nil
		jobs = append(jobs, p.enter(s, stop, &event.RoleData{Reason: "the daemon is gone, and the role with it"}, 0)...)
	}
	return jobs
}

func (p *planner) enter(s *set, to state, d *event.RoleData, seq uint64) (jobs []job) {
	if s.ran == to {
		return nil
	}
	s.ran = to
	for i := range s.groups {
		g := &s.groups[i]
		var addrs []string
		for _, a := range g.Addresses {
			addrs = append(addrs, a.Prefix.String())
		}
		jobs = p.add(jobs, &g.Scripts, job{name: g.Name, state: to, seq: seq, env: []string{"TANDEM_TYPE=group", "TANDEM_INTERFACE=" + g.Interface,
			"TANDEM_VRID=" + strconv.Itoa(int(g.VRID)), "TANDEM_ADDRESSES=" + strings.Join(addrs, " ")}},
			"INSTANCE", priorityOf(g, d), d)
	}
	if s.sync != nil && len(s.groups) > 0 {
		jobs = p.add(jobs, &s.sync.Scripts, job{name: s.sync.Name, state: to, seq: seq, env: []string{"TANDEM_TYPE=sync-group"}},
			"GROUP", priorityOf(&s.groups[0], d), d)
	}
	return jobs
}

func priorityOf(g *config.Group, d *event.RoleData) int {
	if n, ok := d.Priority[g.Name]; ok {
		return n
	}
	return int(g.Priority)
}

// add appends a job where a script is configured. Its arguments are the
// script's own, and those that keepalived gives a notify script.
func (p *planner) add(jobs []job, scripts *config.Scripts, j job, kind string, priority int, d *event.RoleData) []job {
	argv := scripts.All()[string(j.state)]
	if argv == nil {
		return jobs
	}
	prio := strconv.Itoa(priority)
	j.argv = append(slices.Clone(argv), kind, j.name, notifyWord[j.state], prio)
	j.env = append(j.env, "TANDEM_NODE="+p.node, "TANDEM_NAME="+j.name, "TANDEM_STATE="+string(j.state),
		"TANDEM_PRIORITY="+prio, "TANDEM_REASON="+d.Reason, "TANDEM_EVENT="+strconv.FormatUint(j.seq, 10))
	return append(jobs, j)
}
