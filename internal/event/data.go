// SPDX-License-Identifier: Apache-2.0

package event

import "encoding/json"

// RoleData is the Data of an event of kind Role.
type RoleData struct {
	From   string `json:"from"` // Active, Backup, Initialize
	To     string `json:"to"`
	Reason string `json:"reason,omitempty"`
	// Stopped: To is Initialize because the node stops, not because of a fault.
	Stopped bool `json:"stopped,omitempty"`
	// Priority in force, by group.
	Priority map[string]int `json:"priority,omitempty"`
}

// AddressData is the Data of an event of kind Address that is of all addresses
// of a set.
type AddressData struct {
	In bool `json:"in"`
}

// DataOf reads the Data of an event, as it was published or as JSON had it;
// false: it is none, or of another kind.
func DataOf[T any](e *Event) (v T, ok bool) {
	if v, ok = e.Data.(T); ok {
		return v, true
	}
	if e.Data == nil {
		return v, false
	}
	text, err := json.Marshal(e.Data)
	if err != nil || json.Unmarshal(text, &v) != nil {
		return *new(T), false
	}
	return v, true
}

// Configuration is the subject of the event of kind Daemon that says that the
// configuration was read again.
const Configuration = "configuration"
