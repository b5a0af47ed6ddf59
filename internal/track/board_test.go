// SPDX-License-Identifier: Apache-2.0

package track

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tandem-ha/tandem/internal/vip"
)

func TestVerdict(t *testing.T) {
	up, down := State{Level: Up}, State{Level: Down, Why: "exit status 1"}
	for name, tt := range map[string]struct {
		priority uint8
		things   []Thing
		states   map[string]State
		want     Verdict
	}{
		"nothing tracked":        {100, nil, nil, Verdict{Priority: 100}},
		"a fault":                {100, []Thing{{"a", 0}}, map[string]State{"a": down}, Verdict{100, "a: exit status 1"}},
		"down without a word":    {100, []Thing{{"a", 0}}, map[string]State{"a": {Level: Down}}, Verdict{100, "a: down"}},
		"up":                     {100, []Thing{{"a", 0}}, map[string]State{"a": up}, Verdict{Priority: 100}},
		"not heard of":           {100, []Thing{{"a", 0}}, nil, Verdict{100, "a has not answered yet"}},
		"two faults":             {100, []Thing{{"a", 0}, {"b", 0}}, map[string]State{"a": down, "b": down}, Verdict{100, "a: exit status 1; b: exit status 1"}},
		"taken off while down":   {200, []Thing{{"a", -150}}, map[string]State{"a": down}, Verdict{Priority: 50}},
		"not while up":           {200, []Thing{{"a", -150}}, map[string]State{"a": up}, Verdict{Priority: 200}},
		"nor before it is known": {200, []Thing{{"a", -150}, {"b", 20}}, nil, Verdict{Priority: 200}},
		"added while up":         {100, []Thing{{"a", 20}, {"b", 30}}, map[string]State{"a": up, "b": up}, Verdict{Priority: 150}},
		"not while down":         {100, []Thing{{"a", 20}}, map[string]State{"a": down}, Verdict{Priority: 100}},
		"both ways":              {100, []Thing{{"a", 20}, {"b", -50}}, map[string]State{"a": up, "b": down}, Verdict{Priority: 70}},
		"never below 1":          {100, []Thing{{"a", -250}}, map[string]State{"a": down}, Verdict{Priority: 1}},
		"never above 254":        {200, []Thing{{"a", 250}}, map[string]State{"a": up}, Verdict{Priority: 254}},
		"weight beside a fault":  {200, []Thing{{"a", -50}, {"b", 0}}, map[string]State{"a": down, "b": down}, Verdict{150, "b: exit status 1"}},
		"the owner's stays":      {255, []Thing{{"a", 0}}, map[string]State{"a": down}, Verdict{255, "a: exit status 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBoard([]Group{{Name: "LAN", Priority: tt.priority, Things: tt.things}})
			for id, s := range tt.states {
				if !b.Set(id, s) {
					t.Errorf("%s: the first word changes nothing", id)
				}
				if b.Set(id, s) {
					t.Errorf("%s: the same word again changes something", id)
				}
			}
			if d := cmp.Diff(tt.want, b.Verdict(&b.Groups()[0])); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestBoardKnowsItsThings(t *testing.T) {
	b := NewBoard([]Group{{Name: "LAN", Things: []Thing{{"interface eth3", 0}, {"health-check of MAIN", 0}}},
		{Name: "WAN", Things: []Thing{{"health-check of MAIN", 0}, {"interface eth4", -5}, {"interface eth3", 0}}}})
	if b.Set("interface eth9", State{Level: Down}) {
		t.Error("a thing that nobody tracks was noted")
	}
	if d := cmp.Diff([]string{"interface eth3", "interface eth4"}, b.IDs(interfacePrefix)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := len(b.Things("WAN")); n != 3 {
		t.Errorf("WAN has %d things", n)
	}
	if b.Things("DMZ") != nil {
		t.Error("a strange group has things")
	}
	b.Set("health-check of MAIN", State{Level: Down, Why: "no"})
	for i := range b.Groups() {
		if v := b.Verdict(&b.Groups()[i]); v.Fault == "" {
			t.Errorf("%s is not in fault", b.Groups()[i].Name)
		}
	}
}

func TestJudgeLinks(t *testing.T) {
	links := map[int32]vip.Link{2: {Index: 2, Name: "eth3", Up: true}, 3: {Index: 3, Name: "eth4"}}
	for name, want := range map[string]State{
		"eth3": {Level: Up}, "eth4": {Level: Down, Why: "it is down, or has no carrier"}, "eth5": {Level: Down, Why: "it does not exist"},
	} {
		if level, why := judge(name, links); level != want.Level || why != want.Why {
			t.Errorf("%s: %v %q, want %v %q", name, level, why, want.Level, want.Why)
		}
	}
}
