// SPDX-License-Identifier: Apache-2.0

// Package arrows holds the walls between the rooms: a test asks the go tool who
// imports whom and compares the answer with the table of who may. A new room
// has to be drawn into the table before it builds. Nothing here runs in tandem.
package arrows
