// SPDX-License-Identifier: Apache-2.0

// Package track owns what a group follows beside its adverts: interfaces,
// health-check scripts and pings, and what their state means for the group's
// priority. It never decides on a role, and never runs a program in the
// process of the election or of the daemon: Run and Ping are for tandem hooks.
//
//	check.go   a health check: results in, up or down out; pure
//	board.go   all that is tracked: fault and priority of each group; pure
//	links.go   interfaces, as rtnetlink reports them
//	script.go ping.go   one run of a health check
//	trust.go   whether a program may be run at all
package track
