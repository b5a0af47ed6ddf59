// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"strings"

	"github.com/tandem-ha/tandem/internal/config"
)

const header = "From VyOS, by tandem import vyos. Comments say where a decision was taken, or a line refused."

// settle prints the result and asks internal/config, until nothing more can be
// taken out. What is refused becomes a comment and a note, unless the rest would
// mean something else without it: then the line stays, and the note says that
// tandem check will refuse the file. So the importer needs no list of what this
// version of tandem can do.
func (t *translation) settle() string {
	for {
		text, at := print(header, t.tables)
		faults := config.Check(text)
		if !t.takeOut(faults, at) {
			for _, f := range faults {
				var from *node
				if i := at[f.Line]; i != nil {
					from = i.from
				}
				t.lost(from, "tandem check refuses it: %s: %s", f.Key, f.Text)
			}
			return text
		}
	}
}

// takeOut turns refused lines into comments, and says whether there was one.
func (t *translation) takeOut(faults []config.Fault, at map[int]*item) bool {
	found := false
	for _, f := range faults {
		i := at[f.Line]
		if i == nil || i.must || i.off != "" {
			continue
		}
		i.off = strings.TrimSuffix(f.Text, ": take the line out")
		t.lost(i.from, "left out: %s: %s", f.Key, i.off)
		found = true
	}
	return found
}
