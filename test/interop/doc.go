// SPDX-License-Identifier: Apache-2.0

// Package interop has tandem elect with other people's VRRP, in namespaces:
// Debian's keepalived and FRR's vrrpd on one router, the built tandem on the
// other, and tshark as the judge of every advert that tandem sent. Nothing is
// skipped: what is not installed fails.
package interop
