// SPDX-License-Identifier: Apache-2.0

// Package vrrp is RFC 9568 (VRRPv3) and RFC 3768 (VRRPv2): the codec of their
// adverts and the machine that decides who is Active. It owns the states, the
// timers and the receive checks in the order of RFC 9568 section 7.1; it never
// opens a socket, reads a clock, starts a goroutine or knows why its caller
// wants a role.
//
// Time is an argument everywhere: nanoseconds of CLOCK_MONOTONIC, named now
// (or at, when a kernel stamped it).
//
//	packet.go    bytes <-> Advert, the receive checks
//	machine.go   Instance: one virtual router, the state table
//	syncgroup.go Set: instances that change state together, what callers use
//	transition.go what a Set does when it changes its state
//	tracking.go  what its caller knows beside the adverts: health, weights, maintenance
package vrrp
