// SPDX-License-Identifier: Apache-2.0

package conntrack

import "golang.org/x/sys/unix"

// Numbers of include/uapi/linux/netfilter/nfnetlink_conntrack.h, under the
// kernel's names. golang.org/x/sys/unix does not have them.

// enum cntl_msg_types, with the subsystem in the high byte.
const (
	msgNew      = unix.NFNL_SUBSYS_CTNETLINK << 8   // IPCTNL_MSG_CT_NEW
	msgGet      = unix.NFNL_SUBSYS_CTNETLINK<<8 | 1 // IPCTNL_MSG_CT_GET
	msgDelete   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
	msgGetStats = unix.NFNL_SUBSYS_CTNETLINK<<8 | 5 // IPCTNL_MSG_CT_GET_STATS
)

// enum ctattr_type.
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaStatus     = 3
	ctaProtoinfo  = 4
	ctaNATSrc     = 6
	ctaTimeout    = 7
	ctaMark       = 8
	ctaNATDst     = 13
	ctaZone       = 18
)

// enum ctattr_tuple, ctattr_ip, ctattr_l4proto.
const (
	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaTupleZone  = 3

	ctaIPv4Src = 1
	ctaIPv4Dst = 2
	ctaIPv6Src = 3
	ctaIPv6Dst = 4

	ctaProtoNum        = 1
	ctaProtoSrcPort    = 2
	ctaProtoDstPort    = 3
	ctaProtoICMPID     = 4
	ctaProtoICMPType   = 5
	ctaProtoICMPCode   = 6
	ctaProtoICMPv6ID   = 7
	ctaProtoICMPv6Type = 8
	ctaProtoICMPv6Code = 9
)

// enum ctattr_protoinfo and its members for TCP and SCTP.
const (
	ctaProtoinfoTCP  = 1
	ctaProtoinfoSCTP = 3

	ctaTCPState      = 1
	ctaTCPScaleOrig  = 2
	ctaTCPScaleReply = 3
	ctaTCPFlagsOrig  = 4
	ctaTCPFlagsReply = 5

	ctaSCTPState     = 1
	ctaSCTPVTagOrig  = 2
	ctaSCTPVTagReply = 3
)

// enum ctattr_nat, ctattr_protonat.
const (
	ctaNATv4MinIP = 1
	ctaNATv4MaxIP = 2
	ctaNATProto   = 3
	ctaNATv6MinIP = 4
	ctaNATv6MaxIP = 5

	ctaProtoNATPortMin = 1
	ctaProtoNATPortMax = 2
)

// enum ctattr_stats_global.
const (
	ctaStatsGlobalEntries    = 1
	ctaStatsGlobalMaxEntries = 2
)

// Sizes of struct nlmsghdr, nfgenmsg and nlattr, in bytes.
const (
	sizeofHeader  = unix.SizeofNlMsghdr
	sizeofGenmsg  = 4
	sizeofAttr    = unix.SizeofNlAttr
	sizeofErrno   = 4
	alignTo       = 4
	groupDestroy  = unix.NFNLGRP_CONNTRACK_DESTROY
	maxCreateSize = 512 // no request of ours is longer; the longest (IPv6 SCTP, both NATs) has 404 bytes
)
