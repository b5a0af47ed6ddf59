// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/event"
)

func TestRepairs(t *testing.T) {
	b := &fake{stream: event.New(1), flows: make([]Flow, 3)}
	path, _ := serve(t, b)
	c := NewClient(path)
	asked, err := c.Resync(t.Context(), "r7")
	if diff := cmp.Diff([]string{"r7", "r2"}, asked); err != nil || diff != "" {
		t.Errorf("resync: %v (-want +got):\n%s", err, diff)
	}
	if d, err := c.FlowDiff(t.Context()); err != nil || d.Kernel != 3 {
		t.Errorf("flow diff: %+v, %v", d, err)
	}
	b.err = errors.New("no peer is heard")
	if _, err := c.Resync(t.Context(), ""); err == nil || err.Error() != "no peer is heard" {
		t.Errorf("resync: %v", err)
	}
	if _, err := c.FlowDiff(t.Context()); err == nil || err.Error() != "no peer is heard" {
		t.Errorf("flow diff: %v", err)
	}
	for _, bad := range []string{"", "{}", `"` + strings.Repeat("x", 2000) + `"`} {
		resp, err := c.http.Post("http://tandem"+pathResync, "application/json", strings.NewReader(bad))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%.10q: %s", bad, resp.Status)
		}
	}
}
