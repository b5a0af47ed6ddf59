// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
)

// What a killed run raised is put back by the next, unless somebody else has
// changed it since. The limit itself only moves up by one here.
func TestLimitIsUndoneAfterAKill(t *testing.T) {
	now, err := readMax()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writeMax(now) })
	undo := undoFiles + strconv.Itoa(1<<22+1) // no process ever has it (PID_MAX_LIMIT)
	for _, c := range []struct {
		name        string
		raised      int
		left        string
		before, end int
	}{
		{"killed", now + 1, "", now, now},
		{"changed since", now, fmt.Sprintf("%d %d", now-1, now+7), now, now},
		{"not ours", now, "nonsense", now, now},
	} {
		if err := writeMax(c.raised); err != nil {
			t.Fatal(err)
		}
		if c.left == "" {
			c.left = fmt.Sprintf("%d %d", c.before, c.raised)
		}
		if err := os.WriteFile(undo, []byte(c.left), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := undoKilled(); (err != nil) != (c.left == "nonsense") {
			t.Errorf("%s: %v", c.name, err)
		}
		if got, err := readMax(); err != nil || got != c.end {
			t.Errorf("%s: the limit is %d (%v), want %d", c.name, got, err, c.end)
		}
		if _, err := os.Stat(undo); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file stayed: %v", c.name, err)
		}
	}
}
