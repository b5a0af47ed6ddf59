// SPDX-License-Identifier: Apache-2.0

// Package flowdiff compares what a node holds of flows with its kernel table:
// own flows and the views of peers. It reads in slices, takes every difference
// for one only if it is still there later, and changes nothing.
package flowdiff
