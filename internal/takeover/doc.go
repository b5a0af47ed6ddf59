// SPDX-License-Identifier: Apache-2.0

// Package takeover stands between the election and the copy. It decides the
// order in which fence, addresses, commit and release happen, so that no
// packet is answered from a kernel table that does not know its flow.
//
//	vrrp (its own process)        syncproto (own flows, views)
//	   | Promoting, Demoting ...      | PeerState, ViewComplete ...
//	   v                              v
//	 Machine: (state, event, now) -> actions          machine.go, handover.go
//	   |
//	   v
//	 Runner: carries actions out                      runner.go
//	   -> Election (gates), Fence, Replica, Committer commit.go
//
// It never sends an advert, never touches an address and never parses a
// packet: those are vrrp's, vip's and syncproto's.
package takeover
