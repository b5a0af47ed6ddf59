// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
)

// Fault is one refusal, at its place.
type Fault struct {
	Path string
	Line int    // 0: of the file as a whole
	Key  string // "vrrp.group.LAN.vrid"
	Text string // the value and what is allowed
}

// Error is the refusal on one line: file, line, key, value, what is allowed.
func (f Fault) Error() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", f.Path, f.Key, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Key, f.Text)
}

// Check says what Load would refuse of a text, in the order of the text; nil
// when it is good. A text that is not TOML has one fault, without a key.
func Check(text string) []Fault {
	_, err := parse("", text)
	var faults []Fault
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			var f Fault
			if errors.As(e, &f) {
				faults = append(faults, f)
			}
		}
	}
	if err != nil && faults == nil {
		faults = []Fault{{Text: err.Error()}}
	}
	return faults
}
