// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"github.com/tandem-ha/tandem/internal/event"
)

func TestHooksAndHistory(t *testing.T) {
	path, _ := serve(t, &fake{stream: event.New(1)})
	c := NewClient(path)
	word := HooksWord{Done: 7}
	for range 500 { // more than an order of a person's has
		word.Checks = append(word.Checks, CheckWord{Name: "health-check of LAN", State: "down", Why: "exit status 1 (3 times in a row)"})
	}
	if a, err := c.Hooks(t.Context(), word); err != nil || a.Done != 7 {
		t.Errorf("got %+v, %v", a, err)
	}
	for _, n := range []int{1, 3} {
		if all, err := c.Takeovers(t.Context(), n); err != nil || len(all) != n {
			t.Errorf("asked for %d takeovers, got %d, %v", n, len(all), err)
		}
	}
}
