// SPDX-License-Identifier: Apache-2.0

// Package control owns the control socket: the values that cross it, the
// server that the daemon runs, and the client that the command uses. It is
// HTTP/1.1 with JSON over a Unix socket of mode 0600. It knows no room of the
// daemon: what it shows comes through Backend, which internal/node implements.
//
// Every request that changes something (any method but GET) needs uid 0, asked
// of the kernel by SO_PEERCRED.
package control
