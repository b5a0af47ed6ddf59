// SPDX-License-Identifier: Apache-2.0

// Package hooks is the process that runs other people's programs: transition
// scripts and health checks. It asks the daemon through the control socket,
// as anybody does, and never decides: what a script says goes to the daemon as
// a level. It may die at any moment and be started again; the daemon then goes
// by what it heard last.
//
//	plan.go    events -> scripts; pure
//	checks.go  the health checks, each at its own pace
//	run.go     the connection to the daemon, and scripts one after the other
package hooks
