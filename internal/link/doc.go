// SPDX-License-Identifier: Apache-2.0

// Package link carries syncproto's datagrams between nodes: sockets bound to
// the sync interfaces, hop limit 255 checked, MTU of the interface, calls to
// configured addresses or to a multicast group. It knows at which address which
// node lives (station), and so which paths lead to a peer; by which of them to
// send is syncproto's word. It holds no flow and decides nothing about them.
package link
