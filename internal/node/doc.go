// SPDX-License-Identifier: Apache-2.0

// Package node joins the rooms into a running daemon: wiring and life cycle,
// nothing else. Every decision is made in a room.
//
//	loader.Capture --sink--> syncproto (own flows) --link--> peers
//	peers --link--> syncproto (views) --replica--> takeover.Committer -> kernel table
//	adverts.Process <--election--> takeover.Runner -> loader.Fence
//	control.Server <--backend-- all of them
package node
