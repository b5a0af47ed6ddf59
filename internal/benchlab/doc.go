// SPDX-License-Identifier: Apache-2.0

// Package benchlab measures a pair of daemons from outside, on the lab and under
// the load of the drills: machine time, bytes on the link, memory, lag, and what
// endpoints lose. Each figure is taken alone or beside keepalived and
// conntrackd, in the same lab, under the same load, in turn.
//
// It judges nothing and keeps no record: it gives every run's values, and their
// ratios within one round with their spread, since nothing else carries over to
// another machine.
package benchlab
