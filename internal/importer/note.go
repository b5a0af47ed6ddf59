// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"strings"
)

// Note is a sentence about a line of the source.
type Note struct {
	Line int    `json:"line,omitempty"` // 0: about the whole
	Path string `json:"path,omitempty"` // VyOS's words down to the option
	Text string `json:"text"`
	// Lost: the result behaves otherwise than the source, or tandem refuses it.
	Lost bool `json:"lost"`
}

// String is the note as a line: "12: service conntrack-sync ...: left out: ...".
func (n Note) String() string {
	var b strings.Builder
	if n.Line != 0 {
		fmt.Fprintf(&b, "%d: ", n.Line)
	}
	if n.Path != "" {
		b.WriteString(n.Path + ": ")
	}
	return b.String() + n.Text
}

// Result is what became of a configuration.
type Result struct {
	TOML  string `json:"toml"`
	Notes []Note `json:"notes"` // in the order of the source
}

// Lost says whether anything was lost.
func (r Result) Lost() bool {
	for _, n := range r.Notes {
		if n.Lost {
			return true
		}
	}
	return false
}
