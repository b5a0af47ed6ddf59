// SPDX-License-Identifier: Apache-2.0

package event

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDataOf(t *testing.T) {
	want := RoleData{From: "Backup", To: "Active", Priority: map[string]int{"LAN": 200}}
	here := Event{Kind: Role, Data: want}
	text, err := json.Marshal(here)
	if err != nil {
		t.Fatal(err)
	}
	var there Event
	if err := json.Unmarshal(text, &there); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Event{"as published": here, "as JSON had it": there} {
		got, ok := DataOf[RoleData](&e)
		if d := cmp.Diff(want, got); d != "" || !ok {
			t.Errorf("%s: %t (-want +got):\n%s", name, ok, d)
		}
	}
	for name, e := range map[string]Event{"none": {}, "a word": {Data: "x"}} {
		if got, ok := DataOf[RoleData](&e); ok {
			t.Errorf("%s is read as %+v", name, got)
		}
	}
}
