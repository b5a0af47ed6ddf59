// SPDX-License-Identifier: Apache-2.0

// Package syncproto is the replication of flows between nodes: records and
// datagrams, own flows and views, and the machine that keeps a peer's view
// equal to this node's own flows whatever the network does. The format is
// specified in docs/protocol.md.
//
// It is pure: no socket, no key, no clock, no goroutine. Time is an argument
// (int64 nanoseconds of CLOCK_MONOTONIC, named now), randomness comes from
// Config.Rand. Nothing in it is safe for concurrent use; the owner locks
// (link.Locked).
package syncproto
