// SPDX-License-Identifier: Apache-2.0

// Package conntrack is the kernel's connection tracking table as a library:
// Flow, Policy, the ctnetlink codec and the table itself. It restores flows
// with NAT, in batches, without an allocation per flow. It knows nothing of
// replication.
package conntrack
