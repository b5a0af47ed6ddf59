// SPDX-License-Identifier: Apache-2.0

// Package link carries syncproto's datagrams between nodes: sockets bound to
// the sync interface, hop limit 255 checked, MTU of the interface, discovery
// by multicast when no peer is configured. It holds no flow and decides
// nothing about them.
package link
