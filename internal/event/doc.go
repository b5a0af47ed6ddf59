// SPDX-License-Identifier: Apache-2.0

// Package event owns the daemon's one ordered stream of events: numbered,
// kept in a ring, and read by any number of subscribers at their own pace. A
// publisher never waits for a subscriber.
package event
