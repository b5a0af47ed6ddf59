// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"time"

	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
	"github.com/tandem-ha/tandem/internal/takeover"
)

const maintenanceText = "maintenance: this node stays Backup, whoever fails, until tandem maintenance off (or a restart)"

// Maintenance is control.Changes. On: the role is given away as by a switchover
// where a peer can take it, else released with priority 0, and does not come
// back before Off. It is nowhere written down: a router that starts anew is
// one that somebody wants to work.
func (b *backend) Maintenance(ctx context.Context, o control.MaintenanceOrder) (control.RoleChange, error) {
	e := b.d.election
	switch {
	case b.d.external():
		return control.RoleChange{}, errors.New("another program elects here (failover-mechanism.external = true): have that one give the role away")
	case b.proc() == nil:
		return control.RoleChange{}, errors.New("the election has not started yet")
	case o.On == !e.asideSince().IsZero():
		return control.RoleChange{Already: true, Text: onOff(o.On) + " already", Steps: []control.Step{}}, nil
	case !o.On:
		e.setAside(false)
		return control.RoleChange{Text: "maintenance is over: this node is a Backup like any other; tandem switchover brings the role back", Steps: []control.Step{}}, nil
	}
	out, how := b.giveAway(ctx)
	e.setAside(true)
	out.Text = how + "; " + maintenanceText
	return out, nil
}

func onOff(on bool) string {
	if on {
		return "maintenance is on"
	}
	return "maintenance is off"
}

// giveAway hands the followed set over, if it is Active here; how says what came
// of it.
func (b *backend) giveAway(ctx context.Context) (out control.RoleChange, how string) {
	out.Steps = []control.Step{}
	active := b.d.election.activeSets()
	if len(active) == 0 {
		return out, "this node is not Active"
	}
	if b.d.sync == nil || !active[b.d.election.followed] {
		return out, "the role is released with priority 0"
	}
	done, err := b.d.sync.runner.Switchover(ctx, "", false)
	if err != nil {
		return out, "no switchover (" + err.Error() + "): the role is released with priority 0"
	}
	return roleChange(done), done.Text
}

// asideSince is since when maintenance is on, the zero time when it is not.
func (e *election) asideSince() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.aside
}

// activeSets are the sets that are Active here.
func (e *election) activeSets() map[string]bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]bool{}
	for name, s := range e.sets {
		if s.Role == control.RoleActive {
			out[name] = true
		}
	}
	return out
}

// setAside tells the child, and the machine of the takeover, which tells the
// peers: nobody hands over to this node meanwhile.
func (e *election) setAside(on bool) {
	const key = "maintenance "
	text := "maintenance is over"
	e.mu.Lock()
	e.aside = time.Time{}
	delete(e.alarms, key)
	initialize := false
	if on {
		e.aside, text = time.Now(), maintenanceText
		e.alarms[key] = control.Alarm{Since: e.aside, Kind: "maintenance", Text: maintenanceText, About: "node"}
	} else if e.followed != "" {
		initialize = e.set(e.followed).Role == control.RoleInitialize
	}
	proc := e.proc
	e.mu.Unlock()
	proc.SetAside(on)
	e.forward(e.followed, takeover.Event{Kind: takeover.EvFault, On: on || initialize})
	e.publish(event.Alarm, "maintenance", text)
	e.log.Warn("maintenance", "on", on)
}
