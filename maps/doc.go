// SPDX-License-Identifier: Apache-2.0

// Package maps gives the BPF maps their types: rings, counters, settings and
// the memory shared with programs. It parses what programs write and never
// loads or attaches anything.
package maps
