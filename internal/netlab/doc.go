// SPDX-License-Identifier: Apache-2.0

// Package netlab builds a router pair out of network namespaces of one
// machine and takes it apart again: two routers, a host on each side, a
// switch between them, NAT and a stateful forward chain, faults as an operator
// meets them (power cut, interface down, cable out, loss), and an eye on every
// wire that counts resets and ICMP errors.
//
// It owns only namespaces whose names begin with its prefix. It never touches
// a link, a sysctl or a process outside of them.
//
//	              lan switch                         wan switch
//	client ----- lan.client                         wan.server ----- server
//	10.0.0.10      lan.r1 --- eth0 [ r1 ] eth1 --- wan.r1      203.0.113.10
//	               lan.r2 --- eth0 [ r2 ] eth1 --- wan.r2
//	                            eth2 |  | eth2
//	                         sync.r1 +  + sync.r2
//	                               sync switch
//
// The sync switch stands for a cable: a router without power costs the other
// one the carrier of eth2 but leaves it the interface. A Relay may stand in it,
// which does to datagrams what no switch does; a power cut ends it.
//
// With Options.IPv6 LAN and WAN have IPv6 too: client 2001:db8:a::10, server
// 2001:db8:b::10, the routers' own addresses ::2 and ::3 on either side.
//
// A third router (Options.Third) is one more of the same: 10.0.0.4, 203.0.113.4,
// and 192.168.255.3 on a sync link that is a switch then.
//
// All three switches live in one namespace of their own, without addresses.
package netlab
