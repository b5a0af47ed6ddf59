// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strconv"
	"time"

	"github.com/tandem-ha/tandem/internal/event"
)

// Backend is what the daemon shows through the socket. Every method may be
// called from several goroutines at once, from the moment the server runs.
type Backend interface {
	// Status is the whole picture; it must answer within some milliseconds,
	// whatever the number of flows.
	Status() Status
	// VRRP is the configured groups in the order of the file.
	VRRP() []VRRPGroup
	// Sync is nil when nothing is replicated ([conntrack-sync] absent).
	Sync() *SyncStatus
	// Flows yields the flows that q asks for until yield says false. The Flow
	// may be reused after yield returned.
	Flows(q FlowQuery, yield func(*Flow) bool) error
	// FlowCount counts without listing.
	FlowCount() (FlowCount, error)
	// Events is the daemon's stream.
	Events() *event.Stream

	// Takeovers are the latest n, oldest first.
	Takeovers(n int) []Timeline

	Changes
	Repairer
}

// Roles, in the words of RFC 9568.
const (
	RoleActive     = "Active"
	RoleBackup     = "Backup"
	RoleInitialize = "Initialize"
	RoleDisabled   = "Disabled" // configured, but disable = true
)

// Status is the answer to `tandem status`.
type Status struct {
	Node    string    `json:"node"`
	Version string    `json:"version"`
	Config  string    `json:"config"`  // path of the file in force
	Started time.Time `json:"started"` // of this process
	Now     time.Time `json:"now"`     // of this answer

	// Sets are what changes role together: a sync group, or a group that is
	// in none. The first one is the one that conntrack-sync follows.
	Sets    []Set        `json:"sets"`
	Groups  []VRRPGroup  `json:"groups"`
	Strays  []VRRPStray  `json:"vrrp_strays,omitempty"` // by interface
	Sync    *SyncStatus  `json:"sync,omitempty"`        // nil: nothing is replicated
	Capture *Capture     `json:"capture,omitempty"`
	Table   *KernelTable `json:"kernel_table,omitempty"`
	Fence   *Fence       `json:"fence,omitempty"`
	Last    *Timeline    `json:"last_takeover,omitempty"` // nil: none since start
	// Maintenance is since when this node stays Backup by order; zero: it does not.
	Maintenance time.Time     `json:"maintenance,omitzero"`
	Adverts     *AdvertHealth `json:"adverts,omitempty"`
	// Alarms are conditions that hold now and that somebody should act upon,
	// each one sentence that says what and what to do.
	Alarms []Alarm `json:"alarms"`
}

// Alarm is one condition that holds now.
type Alarm struct {
	Since time.Time `json:"since"`
	Kind  string    `json:"kind"`    // short, stable: "two-actives", "link-silent"
	Text  string    `json:"text"`    // one sentence, and what to do
	About string    `json:"subject"` // set, group, peer or interface
}

// Set is one unit of role: a sync group, or a group that is in none.
type Set struct {
	Name   string    `json:"name"`
	Role   string    `json:"role"`
	Since  time.Time `json:"since"`  // of the role
	Reason string    `json:"reason"` // why it has the role, as a sentence: "r2 went silent for 361 ms"
	Member []string  `json:"member"` // names of groups
	// Waiting says what an otherwise due change waits for: "the view of r2 is
	// not complete (61 %)". Empty when nothing is due.
	Waiting string `json:"waiting,omitempty"`
}

// VRRPGroup is one group: what is configured, what is in force, and the
// counters of RFC 6527.
type VRRPGroup struct {
	Name              string    `json:"name"`
	Set               string    `json:"set"`
	Interface         string    `json:"interface"`
	InterfaceUp       bool      `json:"interface_up"`
	VRID              uint8     `json:"vrid"`
	Version           int       `json:"version"`
	Role              string    `json:"role"`
	Since             time.Time `json:"since"`
	Priority          uint8     `json:"priority"`           // configured
	EffectivePriority uint8     `json:"effective_priority"` // in force
	Preempt           bool      `json:"preempt"`
	AdvertMS          float64   `json:"advertise_interval_ms"`   // configured, milliseconds
	ActiveDownMS      float64   `json:"active_down_interval_ms"` // in force, milliseconds
	Addresses         []string  `json:"addresses"`               // virtual ones, with prefix
	Excluded          []string  `json:"excluded_addresses,omitempty"`
	VirtualMAC        bool      `json:"virtual_mac,omitempty"`
	Installed         bool      `json:"installed"`         // the addresses are on the machine
	Waiting           string    `json:"waiting,omitempty"` // see Set.Waiting

	// Of the Active last heard; empty, 0 when none was heard.
	ActiveAddress  string    `json:"active_address,omitempty"`
	ActivePriority uint8     `json:"active_priority,omitempty"`
	ActiveMS       float64   `json:"active_interval_ms,omitempty"`
	ActiveHeard    time.Time `json:"active_heard,omitzero"`

	VRRPWire

	// Tracked is what the group follows beside its adverts.
	Tracked []Tracked `json:"tracked,omitempty"`
	// Maintenance: see Status.
	Maintenance time.Time `json:"maintenance,omitzero"`

	// Taken is how adverts are taken from the interface, as AdvertHealth.Rung
	// has it, and TakenWhy why not by a higher rung that was asked for.
	Taken    string `json:"adverts_by,omitempty"`
	TakenWhy string `json:"adverts_by_reason,omitempty"`

	Counters VRRPCounters `json:"counters"`
}

// VRRPPeer is a router that adverts go to by unicast, and the least TTL that
// its own are taken with.
type VRRPPeer struct {
	Address string `json:"address"`
	TTL     uint8  `json:"ttl_minimum"`
}

// VRRPWire is what a group puts on the wire and takes from it.
type VRRPWire struct {
	Source         string     `json:"hello_source_address,omitempty"` // configured; empty: the interface's address
	Peers          []VRRPPeer `json:"peer_address,omitempty"`         // by unicast; none: multicast
	Authentication string     `json:"authentication,omitempty"`       // of version 2: "plaintext-password"
	// Of version 3 over IPv4: what the checksum covers, "pseudo-header" or
	// "message"; configured may be "auto".
	Checksum      string `json:"checksum,omitempty"`
	ChecksumSent  string `json:"checksum_sent,omitempty"`
	ChecksumHeard string `json:"checksum_heard,omitempty"` // of the last router heard
	// NoAccept: accept-mode is off; NotAccepted packets to the virtual addresses
	// themselves were dropped.
	NoAccept    bool   `json:"no_accept,omitempty"`
	NotAccepted uint64 `json:"not_accepted,omitempty"`
	// PreemptDelayMS and Description are configured.
	PreemptDelayMS float64 `json:"preempt_delay_ms,omitempty"`
	Description    string  `json:"description,omitempty"`
}

// VRRPCounters have the names of RFC 6527 where it has them.
type VRRPCounters struct {
	AdvertSent           uint64 `json:"advertisement_sent"`
	AdvertRcvd           uint64 `json:"advertisement_rcvd"`
	BecomeActive         uint64 `json:"become_active"`
	ReleasedActive       uint64 `json:"released_active"`
	PriZeroRcvd          uint64 `json:"pri_zero_pkts_rcvd"`
	PriZeroSent          uint64 `json:"pri_zero_pkts_sent"`
	TruncatedErrors      uint64 `json:"truncated_errors"`
	VersionErrors        uint64 `json:"version_errors"`
	InvalidTypePktsRcvd  uint64 `json:"invalid_type_pkts_rcvd"`
	VRIDErrors           uint64 `json:"vrid_errors"`
	ChecksumErrors       uint64 `json:"checksum_errors"`
	TTLErrors            uint64 `json:"ip_ttl_errors"`
	AddressListErrors    uint64 `json:"address_list_errors"`
	PacketLengthErrors   uint64 `json:"packet_length_errors"`
	AdvertIntervalErrors uint64 `json:"adver_interval_errors"`
	CountZeroErrors      uint64 `json:"count_zero_errors"`
	AuthTypeErrors       uint64 `json:"auth_type_errors"`  // version 2: another type of authentication
	AuthFailures         uint64 `json:"auth_failures"`     // version 2: another password
	LinkLocalErrors      uint64 `json:"link_local_errors"` // IPv6: the first address is not link-local
	PeerErrors           uint64 `json:"peer_errors"`       // unicast: not from a peer; multicast: sent to this router alone
	IntervalChanges      uint64 `json:"interval_changes"`  // version 3: another interval of the Active was adopted
	TwoActives           uint64 `json:"two_actives"`       // adverts heard while Active ourselves
	Oversleeps           uint64 `json:"oversleeps"`        // timers found late by more than an interval
	SendErrors           uint64 `json:"send_errors"`       // adverts that the kernel refused
}

// VRRPStray counts what came in on an interface and belongs to no group.
type VRRPStray struct {
	Interface string            `json:"interface"`
	Dropped   map[string]uint64 `json:"dropped"` // by reason
}

// AdvertHealth is how punctual the adverts process is.
type AdvertHealth struct {
	PID      int     `json:"pid"`
	RealTime bool    `json:"real_time"` // SCHED_FIFO and locked memory were granted
	Rung     string  `json:"rung"`      // how adverts are taken: "xdp (native)", "xdp (generic)", "tc", "socket"; where that differs, by interface
	Sent     uint64  `json:"sent"`
	LateP50  float64 `json:"late_p50_us"` // lateness of sent adverts, microseconds
	LateP99  float64 `json:"late_p99_us"`
	LateMax  float64 `json:"late_max_us"`

	SentLate    *Histogram `json:"sent_lateness,omitempty"`     // of each periodic advert
	DecidedLate *Histogram `json:"decision_lateness,omitempty"` // of each decision that an Active is gone
}

// Histogram counts lateness in microseconds.
type Histogram struct {
	BoundsUS []int64  `json:"bounds_us"` // upper bounds, ascending
	Buckets  []uint64 `json:"buckets"`   // one more than bounds, not cumulative
	SumUS    uint64   `json:"sum_us"`
}

// SyncStatus is replication as a whole.
type SyncStatus struct {
	Follows  string       `json:"follows"` // the set whose role it follows
	Commit   string       `json:"commit"`  // continuous or takeover
	Rate     int64        `json:"rate"`    // bytes/s of flow records to each peer
	OwnFlows int          `json:"own_flows"`
	OwnerOf  int          `json:"owner_of"` // own flows that this node owns
	Links    []SyncLink   `json:"links"`
	Peers    []SyncPeer   `json:"peers"`
	Commits  SyncCommits  `json:"commits"`
	Counters SyncCounters `json:"counters"` // of all peers together
	// TwoActives is how often a peer began to say that it is Active beside this node.
	TwoActives uint64 `json:"two_actives"`
}

// SyncLink is one interface that carries replication.
type SyncLink struct {
	Interface string `json:"interface"`
	Local     string `json:"local"` // address:port it listens on
	Carrier   bool   `json:"carrier"`
	MTU       int    `json:"mtu"`
	Heard     bool   `json:"heard"` // something valid came within the last seconds
	// Hint says why nothing may be heard; see SilentLink. Empty when Heard.
	Hint     string       `json:"hint,omitempty"`
	Calling  []string     `json:"calling,omitempty"` // addresses of which no node has told its name yet
	Counters LinkCounters `json:"counters"`
	Gate     *Gate        `json:"gate,omitempty"`
}

// Gate is what drops datagrams of a link before the stack.
type Gate struct {
	Mode    string            `json:"mode"`             // of XDP: "native", "generic"; "": it does not stand
	Reason  string            `json:"reason,omitempty"` // why it does not stand
	Passed  map[string]uint64 `json:"passed,omitempty"` // packets by what they were
	Dropped map[string]uint64 `json:"dropped,omitempty"`
}

// LinkCounters count datagrams of one link. Every drop has its reason.
type LinkCounters struct {
	DatagramsSent uint64            `json:"datagrams_sent"`
	DatagramsRcvd uint64            `json:"datagrams_rcvd"`
	BytesSent     uint64            `json:"bytes_sent"`
	BytesRcvd     uint64            `json:"bytes_rcvd"`
	SendErrors    uint64            `json:"send_errors"`
	Dropped       map[string]uint64 `json:"dropped"` // by reason
}

// SyncPath is one way to a peer: a link here and an address there.
type SyncPath struct {
	Interface string    `json:"interface"`
	Address   string    `json:"address"`
	InUse     bool      `json:"in_use"`   // records, acknowledgements and state go by it; heartbeats go by all
	Heard     bool      `json:"heard"`    // the peer is heard by it
	HearsUs   bool      `json:"hears_us"` // the peer says that it hears this node by it
	Since     time.Time `json:"since"`    // when one of the two changed last
	LastHeard time.Time `json:"last_heard,omitzero"`
	Payload   int       `json:"payload"` // largest datagram, bytes
	Sent      uint64    `json:"datagrams_sent"`
	Rcvd      uint64    `json:"datagrams_rcvd"`
}

// SyncPeer is one peer and this node's view of it.
type SyncPeer struct {
	Name      string     `json:"name"`      // its address as long as it has told none
	Address   string     `json:"address"`   // of the path in use
	Interface string     `json:"interface"` // of the path in use
	Paths     []SyncPath `json:"paths"`
	Version   string     `json:"version,omitempty"` // the peer's
	Role      string     `json:"role,omitempty"`    // as it says itself
	Heard     bool       `json:"heard"`             // heartbeats come
	LastHeard time.Time  `json:"last_heard,omitzero"`
	Carrier   bool       `json:"carrier"`
	Session   string     `json:"session,omitempty"` // hex, first 8 digits of both sides' values
	Since     time.Time  `json:"since,omitzero"`    // of the session
	// Hint says why the peer may be silent; see SilentLink. Empty when Heard.
	Hint string `json:"hint,omitempty"`

	// This node's view of the peer's flows.
	View        int  `json:"view_flows"`
	Complete    bool `json:"view_complete"`
	Committed   int  `json:"view_committed"`   // of View, in the kernel table
	Uncommitted int  `json:"view_uncommitted"` // of View, not (yet) in it

	// What the peer lacks of our own flows.
	BacklogFlows int     `json:"backlog_flows"` // dirty, or sent and not acknowledged
	BacklogMS    float64 `json:"backlog_ms"`    // age of the oldest, milliseconds
	PeerComplete bool    `json:"peer_complete"` // the peer's view of us is complete

	Counters SyncCounters `json:"counters"`
}

// SyncCounters count one peer's replication since start.
type SyncCounters struct {
	RecordsSent   uint64            `json:"records_sent"`
	RecordsRcvd   uint64            `json:"records_rcvd"`
	FullSent      uint64            `json:"full_records_sent"`
	DeletesSent   uint64            `json:"deletes_sent"`
	DeletesRcvd   uint64            `json:"deletes_rcvd"`
	DatagramsSent uint64            `json:"datagrams_sent"`
	DatagramsRcvd uint64            `json:"datagrams_rcvd"`
	DatagramsLost uint64            `json:"datagrams_lost"` // sent, never acknowledged, made good
	BytesSent     uint64            `json:"bytes_sent"`
	BytesRcvd     uint64            `json:"bytes_rcvd"`
	Sessions      uint64            `json:"sessions"`     // sessions begun
	PathChanges   uint64            `json:"path_changes"` // times another path was taken
	Paced         uint64            `json:"paced"`        // times flows waited for the rate
	Dropped       map[string]uint64 `json:"dropped"`      // received and not applied, by reason
	Repair        SyncRepair        `json:"repair"`
}

// SyncCommits count what was written into the kernel table.
type SyncCommits struct {
	Created  uint64            `json:"created"`
	Replaced uint64            `json:"replaced"`
	Deleted  uint64            `json:"deleted"`
	Renewed  uint64            `json:"renewed"` // timeouts of a Backup's entries, before they ran out
	Failed   map[string]uint64 `json:"failed"`  // by errno or reason
}

// Capture is how flows are taken from packets.
type Capture struct {
	Mode       string            `json:"mode"`   // the rung: "tc (tcx)", "tc (clsact)"
	Reason     string            `json:"reason"` // why this rung
	Interfaces []string          `json:"interfaces"`
	Told       uint64            `json:"told"`        // records drained from the ring
	Gone       uint64            `json:"gone"`        // of them TIME_WAIT or CLOSE
	Died       uint64            `json:"died"`        // deaths reported by the kernel, settled
	DeathsLost uint64            `json:"deaths_lost"` // times the death socket overran
	Seeded     uint64            `json:"seeded"`      // from the dump at start and the audit
	Audits     uint64            `json:"audits"`      // completed rounds of the audit
	Missed     uint64            `json:"missed"`      // own flows that an audit found dead
	Restored   uint64            `json:"restored"`    // times that a removed program was attached again
	Malformed  uint64            `json:"malformed"`   // records that no program of ours writes
	RingFull   uint64            `json:"ring_full"`   // changes that found no room (told later)
	Ignored    map[string]uint64 `json:"ignored"`     // packets or flows not replicated, by reason
}

// KernelTable is the kernel's conntrack table of this network namespace.
type KernelTable struct {
	Entries uint32 `json:"entries"`
	Max     uint32 `json:"max"` // nf_conntrack_max
	Buckets uint32 `json:"buckets"`
}

// Fence is what drops packets while the kernel table is incomplete.
type Fence struct {
	Kind    string            `json:"kind"` // "netfilter" or "tc"
	Up      bool              `json:"up"`
	Since   time.Time         `json:"since,omitzero"`
	Dropped map[string]uint64 `json:"dropped"` // packets since start, by reason
}

// Timeline is one takeover or yield, as it happened on this node.
type Timeline struct {
	Set       string    `json:"set"`
	Kind      string    `json:"kind"`   // "takeover" or "yield"
	Reason    string    `json:"reason"` // a sentence
	Start     time.Time `json:"start"`  // t0: the election's word
	Steps     []Step    `json:"steps"`
	Committed int       `json:"committed"` // flows written between Start and the last step
	Failed    int       `json:"failed"`    // flows that could not be written
	// Evidence is what was known at the moment of the decision, each a sentence.
	Evidence []string `json:"evidence,omitempty"`
}

// Step is one moment of a Timeline.
type Step struct {
	Name string  `json:"name"`  // "advert out", "fence up", "addresses in", "committed", "fence down"
	AtMS float64 `json:"at_ms"` // milliseconds after Start
}

// Sources of flows, for FlowQuery.
const (
	SourceKernel = "kernel" // the kernel table, as it is now
	SourceOwn    = "own"    // what this node replicates
	SourceView   = "view"   // the copy of a peer's flows
)

// FlowQuery selects flows. The zero value is the whole kernel table.
type FlowQuery struct {
	Source   string `json:"source"`   // SourceKernel when empty
	Peer     string `json:"peer"`     // with SourceView; empty: every peer
	Protocol string `json:"protocol"` // "tcp", "udp", a number; empty: all
	Address  string `json:"address"`  // one of the flow's addresses, or a prefix
	State    string `json:"state"`    // a TCP state
	Stranded bool   `json:"stranded"` // only flows that no copy can save
	Limit    int    `json:"limit"`    // 0: no limit
}

// FlowCount counts flows.
type FlowCount struct {
	Kernel     KernelTable    `json:"kernel_table"`
	Protocol   map[string]int `json:"protocol"`   // entries of the kernel table by protocol
	Replicated int            `json:"replicated"` // entries that the policy replicates
	Stranded   int            `json:"stranded"`   // entries that no copy can save
	Own        int            `json:"own"`
	View       map[string]int `json:"view"` // by peer
}

// Tuple is one direction of a flow.
type Tuple struct {
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	SrcPort uint16 `json:"sport,omitempty"`
	DstPort uint16 `json:"dport,omitempty"`
}

// Flow is one flow as it is shown.
type Flow struct {
	Family   string `json:"family"`   // "ipv4" or "ipv6"
	Protocol string `json:"protocol"` // "tcp", or the number
	Original Tuple  `json:"original"`
	Reply    Tuple  `json:"reply"`
	State    string `json:"state,omitempty"` // of TCP
	Status   string `json:"status"`          // "assured", "replied", "new"
	NAT      string `json:"nat,omitempty"`   // "snat", "dnat", "snat+dnat"
	Mark     uint32 `json:"mark"`
	Timeout  uint32 `json:"timeout"` // seconds
	Zone     uint16 `json:"zone"`
	Source   string `json:"source"` // SourceKernel, SourceOwn, SourceView
	Peer     string `json:"peer,omitempty"`
	// Stranded says why no copy can save the flow, Remedy what to change.
	Stranded string `json:"stranded,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
}

// SilentLink is the hint shown when nothing is heard on a link.
//
//	carrier  of the interface
//	port     UDP port of the link
func SilentLink(iface string, carrier bool, port uint16) string {
	if !carrier {
		return iface + " has no carrier: check the cable and that the peer's interface is up"
	}
	return "nothing was heard though " + iface + " has a carrier: is tandem running on the peer, on the same link and port, " +
		"and does a firewall on either node drop UDP " + strconv.Itoa(int(port)) + "?"
}
