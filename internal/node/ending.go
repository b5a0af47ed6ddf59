// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tandem-ha/tandem/internal/adverts"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
	"github.com/tandem-ha/tandem/vrrp"
)

// A reload ends sets while the others go on.

const (
	// reloaded is why, as everybody is told.
	reloaded = "the configuration was read again, and has this set no longer or otherwise"
	// endLimit is how long they may take: a release, and the rtnl lock of the host.
	endLimit = 5 * time.Second
)

// end has sets end in good order, and waits until all that they say was taken:
// what is told of them next is of those that begin.
func (e *election) end(sets []string) error {
	e.mu.Lock()
	for _, s := range sets {
		e.ending[s] = false
	}
	e.mu.Unlock()
	for _, s := range sets {
		if err := e.proc.End(s); err != nil {
			return err
		}
	}
	limit := time.After(endLimit)
	for {
		left := e.unended()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-e.settled:
		case <-e.over:
			return errors.New("the adverts process has ended")
		case <-limit:
			return fmt.Errorf("%s did not end within %v", strings.Join(left, ", "), endLimit)
		}
	}
}

func (e *election) unended() (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.ending {
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// ended forgets a set, and ends its alarms. One that had no role has not said that
// it stops.
func (e *election) ended(v adverts.Ended) {
	e.mu.Lock()
	told := e.ending[v.Set]
	var over []control.Alarm
	for key, a := range e.alarms {
		if a.About == v.Set || slices.Contains(v.Groups, a.About) {
			over = append(over, a)
			delete(e.alarms, key)
		}
	}
	e.forward(v.Set, takeover.Event{Kind: takeover.EvEnded})
	delete(e.sets, v.Set)
	delete(e.spoke, v.Set)
	delete(e.gone, v.Set)
	e.mu.Unlock()
	for _, a := range over {
		e.publish(event.Alarm, a.About, "over: "+a.Text)
	}
	if !told {
		e.role(adverts.Changed{Set: v.Set, From: vrrp.Initialize, To: vrrp.Initialize, Reason: reloaded}, "Initialize: "+reloaded)
	}
	e.mu.Lock()
	delete(e.ending, v.Set)
	e.mu.Unlock()
	select {
	case e.settled <- struct{}{}:
	default:
	}
}
