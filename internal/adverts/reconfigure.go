// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"fmt"
	"reflect"

	"github.com/tandem-ha/tandem/internal/config"
)

// What a daemon changes while the child runs. The sets that nobody names here
// hear nothing, and their adverts wait for nothing.

// Room is how many groups the child can have at a time.
func (p *Process) Room() int { return p.names.Load().room }

// Begin has sets elect, as at the start but without the startup delay. What was
// said of their groups by Track holds from their first moment. Nothing begins
// where there is no room for all.
func (p *Process) Begin(sets []config.Set) error {
	p.naming.Lock()
	defer p.naming.Unlock()
	next := p.names.Load()
	for _, s := range sets {
		var err error
		if next, err = next.with(s); err != nil {
			return fmt.Errorf("begin set %q: %w", s.Name, err)
		}
	}
	p.names.Store(next)
	for _, s := range sets {
		if err := p.begin(next, s.Name); err != nil {
			return err
		}
	}
	return nil
}

func (p *Process) begin(n *names, name string) error {
	set, _ := n.set(name)
	for _, i := range n.members(set) {
		if err := p.write(n.message(msgGroup, i)); err != nil {
			return err
		}
		if t, ok := n.said[n.groups[i].Name]; ok {
			if err := p.write(n.track(i, t)); err != nil {
				return err
			}
		}
	}
	return p.write(message{Type: msgBegin, Set: set, Flags: bit(name == p.vouched)})
}

// End ends a set in good order, as a stop does: priority 0, Demoting with cause
// shutdown, addresses out. Ended follows; until then its name is taken.
func (p *Process) End(set string) error {
	p.naming.Lock()
	defer p.naming.Unlock()
	i, ok := p.names.Load().set(set)
	if !ok {
		return fmt.Errorf("end set %q: there is none", set)
	}
	return p.write(message{Type: msgEnd, Set: i})
}

// ended frees the slots of a set.
func (p *Process) ended(set uint16) {
	p.naming.Lock()
	defer p.naming.Unlock()
	p.names.Store(p.names.Load().without(set))
}

// Reconfigure gives groups, found by their names, another configuration while
// they run; config.Changes has what may be another one. A group that is as it was
// hears nothing; what stays of another's addresses stays in.
func (p *Process) Reconfigure(groups []config.Group) error {
	p.naming.Lock()
	defer p.naming.Unlock()
	old := p.names.Load()
	next := old.changed(groups)
	p.names.Store(next)
	for i := range next.groups {
		was, is := wireGroup(old.groups[i].Group), wireGroup(next.groups[i].Group)
		was.Priority = is.Priority // Track's
		if reflect.DeepEqual(was, is) {
			continue
		}
		if err := p.write(next.message(msgChange, uint16(i))); err != nil {
			return err
		}
	}
	return nil
}
