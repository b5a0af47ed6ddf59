// SPDX-License-Identifier: Apache-2.0

// Package load plays the endpoints whose connections a takeover must not
// break, at both ends, and counts by what arrives: TCP conversations whose
// every byte is checked, idle and bulk TCP, UDP flows at a steady pace (half of
// them spoken to by the server only), and crowds of tens of thousands of flows
// made of raw frames without a socket each.
//
// It knows no router, no tandem and no lab: a Place is anything that can run a
// function inside of a network namespace. Times are CLOCK_MONOTONIC ns.
package load
