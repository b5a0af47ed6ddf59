// SPDX-License-Identifier: Apache-2.0

package vrrp

// State is a virtual router's state, RFC 9568 section 6.3.
type State uint8

// States of RFC 9568 section 6.4.
const (
	Initialize State = iota
	Backup
	Active
)

// String names the state as the RFC does.
func (s State) String() string {
	switch s {
	case Backup:
		return "Backup"
	case Active:
		return "Active"
	default:
		return "Initialize"
	}
}

// Cause says why a set changed its state.
type Cause uint8

// Causes. The first block leads to Active, the second away from it.
const (
	CauseNone         Cause = iota
	CauseTimeout            // Active_Down_Timer ran out
	CausePriorityZero       // the Active released the role, Skew_Time ran out
	CauseOwner              // priority 255 at startup
	CauseHandedOver         // handed over, in either direction, beside the adverts

	CauseHigherPriority // another Active outranks this one
	CauseInterfaceDown  // a member's interface went down, or lost its address
	CauseShutdown       // stopped by the operator, or by the daemon's death
	CauseOverslept      // slept past the peers' Active_Down_Interval and then heard another Active
	CauseRefused        // the caller could not carry out the promotion (no fence in time)
	CauseUnwell         // what a member tracks failed: SetUnwell
	CauseMaintenance    // set aside by the operator: SetAside
)

var causeNames = [...]string{
	CauseNone:           "none",
	CauseTimeout:        "timeout",
	CausePriorityZero:   "priority-zero",
	CauseOwner:          "owner",
	CauseHandedOver:     "handed-over",
	CauseHigherPriority: "higher-priority",
	CauseInterfaceDown:  "interface-down",
	CauseShutdown:       "shutdown",
	CauseOverslept:      "overslept",
	CauseRefused:        "refused",
	CauseUnwell:         "unwell",
	CauseMaintenance:    "maintenance",
}

// String is the cause in the words of events and metrics.
func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}

// Counters are a virtual router's statistics. The names are those of RFC 6527
// (vrrpv3StatisticsTable and, for the first three, the vrrpv3RouterStatistics
// scalars, which tandem keeps per interface); the last block is ours.
type Counters struct {
	MasterTransitions      uint64 `json:"masterTransitions"`
	RcvdAdvertisements     uint64 `json:"rcvdAdvertisements"`
	AdvIntervalErrors      uint64 `json:"advIntervalErrors"` // interval 0, or (v2) not ours
	IPTTLErrors            uint64 `json:"ipTtlErrors"`
	RcvdPriZeroPackets     uint64 `json:"rcvdPriZeroPackets"`
	SentPriZeroPackets     uint64 `json:"sentPriZeroPackets"`
	RcvdInvalidTypePackets uint64 `json:"rcvdInvalidTypePackets"`
	AddressListErrors      uint64 `json:"addressListErrors"` // another list than ours: counted, never dropped
	PacketLengthErrors     uint64 `json:"packetLengthErrors"`
	ChecksumErrors         uint64 `json:"checksumErrors"`
	VersionErrors          uint64 `json:"versionErrors"`

	SentAdvertisements uint64 `json:"sentAdvertisements"`
	CountErrors        uint64 `json:"countErrors"`     // address count 0
	AuthTypeErrors     uint64 `json:"authTypeErrors"`  // v2: another type of authentication
	AuthFailures       uint64 `json:"authFailures"`    // v2: another password
	PeerErrors         uint64 `json:"peerErrors"`      // unicast: not from a configured peer, or by multicast; multicast: to this router alone
	LinkLocalErrors    uint64 `json:"linkLocalErrors"` // IPv6: first address not link-local
	IntervalChanges    uint64 `json:"intervalChanges"` // v3: the Active's interval was adopted
	Conflicts          uint64 `json:"conflicts"`       // adverts of another Active that we outrank
	Oversleeps         uint64 `json:"oversleeps"`      // timers found late by more than an interval
	SendErrors         uint64 `json:"sendErrors"`      // adverts the kernel refused
}

// InterfaceCounters are the receive errors that belong to no virtual router.
type InterfaceCounters struct {
	Truncated      uint64 `json:"truncated"`
	VersionErrors  uint64 `json:"versionErrors"`
	InvalidType    uint64 `json:"rcvdInvalidTypePackets"`
	VRIDErrors     uint64 `json:"vrIdErrors"`
	SourceErrors   uint64 `json:"sourceErrors"`   // our own advert came back
	ReceiveDropped uint64 `json:"receiveDropped"` // malformed IP, not ours to judge
}
