// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/control"
)

// changer answers every changing command alike, or refuses it.
type changer struct {
	out   control.RoleChange
	err   error
	asked string
}

func (c *changer) answer(what string, order any) (control.RoleChange, error) {
	c.asked = fmt.Sprintf("%s %+v", what, order)
	return c.out, c.err
}

func (c *changer) Switchover(_ context.Context, o control.SwitchoverOrder) (control.RoleChange, error) {
	return c.answer("switchover", o)
}

func (c *changer) Takeover(_ context.Context, o control.ExternalOrder) (control.RoleChange, error) {
	return c.answer("takeover", o)
}

func (c *changer) Yield(_ context.Context, o control.ExternalOrder) (control.RoleChange, error) {
	return c.answer("yield", o)
}

func (c *changer) Maintenance(_ context.Context, o control.MaintenanceOrder) (control.RoleChange, error) {
	return c.answer("maintenance", o)
}

func (c *changer) Reload(context.Context, control.ReloadOrder) (control.Reloaded, error) {
	return control.Reloaded{}, nil
}

func (c *changer) Hooks(context.Context, control.HooksWord) (control.HooksAnswer, error) {
	return control.HooksAnswer{}, nil
}

func TestRoleCommands(t *testing.T) {
	change := &changer{out: control.RoleChange{Active: "r2", Text: "r2 is Active", Steps: []control.Step{{Name: "adverts stopped", AtMS: 61.29}, {Name: "addresses out", AtMS: 78.4}}}}
	daemon := loadCanned(t, "testdata/show/active.json")
	daemon.Changes = change
	socket := startDaemon(t, daemon)
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"switchover"}, "switchover {To: Force:false}"},
		{[]string{"switchover", "--to", "r2", "--force"}, "switchover {To:r2 Force:true}"},
		{[]string{"takeover"}, "takeover {Reason:}"},
		{[]string{"maintenance", "on"}, "maintenance {On:true}"},
		{[]string{"maintenance", "off"}, "maintenance {On:false}"},
		{[]string{"yield", "--reason", "keepalived: MAIN is BACKUP"}, "yield {Reason:keepalived: MAIN is BACKUP}"},
	} {
		const text = "r2 is Active\n      +61.3 ms  adverts stopped\n      +78.4 ms  addresses out\n"
		if d := cmp.Diff(text, ask(t, socket, tt.args...)); d != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, d)
		}
		if change.asked != tt.want {
			t.Errorf("%v asks for %q, want %q", tt.args, change.asked, tt.want)
		}
		var got control.RoleChange
		if err := json.Unmarshal([]byte(ask(t, socket, append([]string{"-j"}, tt.args...)...)), &got); err != nil || cmp.Diff(change.out, got) != "" {
			t.Errorf("-j %v: %v, %+v", tt.args, err, got)
		}
	}
	change.err = errors.New("r2 cannot take over: it is in fault, tandem status there says which")
	app := newApp()
	if err := app.RunContext(t.Context(), []string{"tandem", "switchover", "--socket", socket}); err == nil || err.Error() != change.err.Error() {
		t.Errorf("a refusal came as %v", err)
	}
}
