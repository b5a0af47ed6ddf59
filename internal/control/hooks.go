// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Tracked is one thing that a group follows.
type Tracked struct {
	Name   string    `json:"name"`  // "interface eth3", "health-check of LAN"
	State  string    `json:"state"` // "up", "down", "unknown"
	Why    string    `json:"why,omitempty"`
	Since  time.Time `json:"since,omitzero"`   // of State
	Weight int       `json:"weight,omitempty"` // 0: down is a fault
	What   string    `json:"what,omitempty"`   // of a health check: the script, or the address
}

// MaintenanceOrder begins or ends maintenance.
type MaintenanceOrder struct {
	On bool `json:"on"`
}

// ReloadOrder asks for the configuration to be read again. It says nothing more.
type ReloadOrder struct{}

// Reloaded is what came of it.
type Reloaded struct {
	Changed []string `json:"changed"` // tables of the file, taken over in place
	Ended   []string `json:"ended"`   // sets: sync groups, and groups that are in none
	Anew    []string `json:"anew"`    // that ended and began as they are now
	Begun   []string `json:"begun"`
	Text    string   `json:"text"` // a sentence
}

// HooksWord is what tandem hooks says: at once when something changed, and
// every two seconds, so that the daemon knows that it lives. It is a level:
// whoever hears the latest one knows all there is to know.
type HooksWord struct {
	PID    int         `json:"pid"`
	Checks []CheckWord `json:"checks"`
	Done   uint64      `json:"done"`   // number of the last event whose scripts have run
	Daemon time.Time   `json:"daemon"` // whose events Done numbers: HooksAnswer.Started
}

// CheckWord is one health check.
type CheckWord struct {
	Name  string `json:"name"`  // as Tracked
	State string `json:"state"` // as Tracked; "unknown" while there is no result
	Why   string `json:"why,omitempty"`
}

// HooksAnswer is where tandem hooks goes on.
type HooksAnswer struct {
	Started time.Time `json:"started"` // of the daemon: another one has other numbers
	Done    uint64    `json:"done"`    // the latest Done that it was told, 0: none
}

const pathTakeovers = "/v1/takeovers"

// history adds what was decided.
func (s *Server) history(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pathTakeovers, func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(r.URL.Query().Get("n"))
		if err != nil || n < 1 {
			n = 1
		}
		s.reply(w, s.backend.Takeovers(n))
	})
}

// Takeovers are the latest n, oldest first.
func (c *Client) Takeovers(ctx context.Context, n int) (out []Timeline, err error) {
	return out, c.get(ctx, pathTakeovers, url.Values{"n": {strconv.Itoa(n)}}, &out)
}

// Maintenance begins or ends it.
func (c *Client) Maintenance(ctx context.Context, order MaintenanceOrder) (out RoleChange, err error) {
	return out, c.post(ctx, pathMaintain, order, &out)
}

// Reload has the configuration read again.
func (c *Client) Reload(ctx context.Context) (out Reloaded, err error) {
	return out, c.post(ctx, pathReload, ReloadOrder{}, &out)
}

// Hooks is for tandem hooks.
func (c *Client) Hooks(ctx context.Context, word HooksWord) (out HooksAnswer, err error) {
	return out, c.post(ctx, pathHooks, word, &out)
}
