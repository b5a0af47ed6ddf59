// SPDX-License-Identifier: Apache-2.0

// Package loader loads and attaches the BPF programs and turns what they write
// into changes: Capture drains the ring of flows, adds deaths and audits the
// kernel table; Fence drops what the kernel table does not know; Adverts
// copies adverts with kernel time; Accept drops what is addressed to virtual
// addresses that accept nothing. It leaves foreign programs and qdiscs where
// they are, and nothing of its own behind.
package loader
