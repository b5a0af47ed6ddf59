// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// Changes are what the daemon does when asked; each returns when it is done.
// The error is a refusal: one sentence that says why. A new one needs a method
// here, a path, a line in changing, and a method of Client.
type Changes interface {
	// Switchover exchanges the roles of this node and a peer without loss.
	Switchover(ctx context.Context, order SwitchoverOrder) (RoleChange, error)
	// Takeover and Yield are another election's word (failover-mechanism.external).
	Takeover(ctx context.Context, order ExternalOrder) (RoleChange, error)
	Yield(ctx context.Context, order ExternalOrder) (RoleChange, error)
	// Maintenance has this node give its role away and stay Backup, or ends that.
	Maintenance(ctx context.Context, order MaintenanceOrder) (RoleChange, error)
	// Reload reads the configuration again.
	Reload(ctx context.Context, order ReloadOrder) (Reloaded, error)
	// Hooks takes the word of tandem hooks.
	Hooks(ctx context.Context, word HooksWord) (HooksAnswer, error)
}

// SwitchoverOrder asks for a switchover.
type SwitchoverOrder struct {
	To    string `json:"to"`    // who is to be Active; "": this node if it is Backup, else its peer
	Force bool   `json:"force"` // go ahead though connections may be lost
}

// ExternalOrder is another election's word.
type ExternalOrder struct {
	Reason string `json:"reason"` // who says so, for the history
}

// RoleChange is what came of a changing command.
type RoleChange struct {
	Active  string `json:"active"`  // who is Active now, "" when this node does not know
	Already bool   `json:"already"` // it was so before: nothing was done
	Text    string `json:"text"`    // what happened, a sentence
	// Steps are as this node saw them, from the command's arrival.
	Steps []Step `json:"steps"`
}

// Paths of what changes something.
const (
	pathSwitchover = "/v1/switchover"
	pathTakeover   = "/v1/takeover"
	pathYield      = "/v1/yield"
	pathMaintain   = "/v1/maintenance"
	pathHooks      = "/v1/hooks"
	pathReload     = "/v1/reload"
)

// changing adds the changing commands. Each is a POST, which onlyRootChanges
// lets through for uid 0 alone.
func (s *Server) changing(mux *http.ServeMux) {
	mux.Handle("POST "+pathSwitchover, change(s, s.backend.Switchover))
	mux.Handle("POST "+pathTakeover, change(s, s.backend.Takeover))
	mux.Handle("POST "+pathYield, change(s, s.backend.Yield))
	mux.Handle("POST "+pathMaintain, change(s, s.backend.Maintenance))
	mux.Handle("POST "+pathReload, change(s, s.backend.Reload))
	mux.Handle("POST "+pathHooks, changeBy(maxWord, s, s.backend.Hooks))
}

// maxOrder bounds the JSON of an order, maxWord that of tandem hooks, which tells
// of all checks at once.
const (
	maxOrder = 1 << 10
	maxWord  = 256 << 10
)

// change answers one changing command: its order comes as JSON, what came of
// it goes back as JSON, a refusal as a failure.
func change[Order, Outcome any](s *Server, do func(context.Context, Order) (Outcome, error)) http.HandlerFunc {
	return changeBy(maxOrder, s, do)
}

func changeBy[Order, Outcome any](limit int64, s *Server, do func(context.Context, Order) (Outcome, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var order Order
		if err := json.NewDecoder(io.LimitReader(r.Body, limit)).Decode(&order); err != nil {
			fail(w, http.StatusBadRequest, fmt.Errorf("read the order: %w", err))
			return
		}
		out, err := do(r.Context(), order)
		if err != nil {
			fail(w, http.StatusConflict, err)
			return
		}
		s.reply(w, out)
	}
}

// Switchover asks for a planned exchange of roles, and waits for it.
func (c *Client) Switchover(ctx context.Context, order SwitchoverOrder) (out RoleChange, err error) {
	return out, c.post(ctx, pathSwitchover, order, &out)
}

// Takeover is another election's word: this node is Active.
func (c *Client) Takeover(ctx context.Context, order ExternalOrder) (out RoleChange, err error) {
	return out, c.post(ctx, pathTakeover, order, &out)
}

// Yield is another election's word: this node is Active no longer.
func (c *Client) Yield(ctx context.Context, order ExternalOrder) (out RoleChange, err error) {
	return out, c.post(ctx, pathYield, order, &out)
}

// post sends an order and reads what came of it.
func (c *Client) post(ctx context.Context, path string, order, into any) error {
	text, err := json.Marshal(order)
	if err != nil {
		return err
	}
	body, err := c.request(ctx, http.MethodPost, url.URL{Path: path}, bytes.NewReader(text))
	if err != nil {
		return err
	}
	return decode(body, into)
}
