// SPDX-License-Identifier: Apache-2.0

package arrows

// mayKnow is the map of the rooms: for each, the rooms that its code (tests
// aside) may import. What is not in the list is forbidden, in particular
// everything to those whose list is empty.
//
//	cmd/tandem ── node ── takeover ── syncproto ── conntrack
//	    │           ├── link ─────────────┘            │
//	    │           ├── loader ── maps ── bpf          │
//	    │           │     └──────────────┴─────────────┘
//	    │           └── metrics, control, event, config
//	    └── adverts ── vrrp, vip, maps (its ring), config (its values)
//	cmd/tandem-lab ── drill, benchlab ── load, netlab
var mayKnow = map[string][]string{
	// Libraries of their own.
	"conntrack":            {},
	"conntrack/policytest": {"conntrack"}, // the cases that both executors of a Policy must pass
	"vrrp":                 {},

	"bpf":       {},
	"maps":      {"bpf", "conntrack"},
	"loader":    {"maps", "bpf", "conntrack", "internal/wakeup"},
	"syncproto": {"conntrack"},

	"internal/link":        {"syncproto", "conntrack", "internal/wakeup"},
	"internal/wakeup":      {},
	"internal/takeover":    {"syncproto", "conntrack", "internal/mutant"},
	"internal/mutant":      {}, // constants, but for tests
	"internal/vip":         {},
	"internal/adverts":     {"vrrp", "internal/vip", "internal/config", "maps"},
	"internal/config":      {"conntrack"},
	"internal/config/live": {"internal/config", "internal/control", "internal/link", "internal/vip", "loader"}, // what only the machine can refuse
	"internal/event":       {},
	"internal/flowdiff":    {"conntrack"},
	"internal/control":     {"internal/event", "conntrack"},
	"internal/metrics": {
		"loader", "maps", "conntrack", "syncproto", "vrrp",
		"internal/link", "internal/takeover", "internal/adverts", "internal/vip", "internal/event", "internal/control",
	},
	"internal/node": {
		"loader", "maps", "conntrack", "syncproto", "vrrp",
		"internal/link", "internal/takeover", "internal/adverts", "internal/vip", "internal/event", "internal/control",
		"internal/config", "internal/metrics", "internal/flowdiff", "internal/mutant",
	},

	// The lab drives tandem from outside: processes, packets, the control socket.
	"internal/netlab": {},
	"internal/load":   {},
	"internal/drill":  {"internal/netlab", "internal/load", "internal/control", "internal/event", "conntrack", "loader"},

	"internal/benchlab": {"internal/drill", "internal/netlab", "internal/load", "internal/control", "conntrack"},

	"cmd/tandem": {
		"loader", "maps", "conntrack",
		"internal/node", "internal/adverts", "internal/config", "internal/config/live", "internal/control", "internal/event",
		"internal/link", "internal/vip",
	},
	"cmd/tandem-lab": {"internal/benchlab", "internal/drill", "internal/netlab", "internal/load"},

	"bench":        {}, // benchmarks only, all of it tests
	"test/arrows":  {},
	"test/e2e":     {}, // tests only
	"test/interop": {},
	"test/tree":    {},
	"test/vm":      {},
	"test/vm/init": {},
	// Without the tag vm there is only its documentation.
	"test/vm/guest": {},
}

// onlyIn says which rooms may import a module of others, tests aside. What a
// module pulls in itself is not meant.
var onlyIn = map[string][]string{
	// A second registry would hide figures from the endpoint.
	"github.com/prometheus/client_golang": {"internal/metrics"},
	// Rulesets are the operator's: only the lab writes them.
	"github.com/google/nftables": {"internal/netlab", "internal/drill"},
	"github.com/cilium/ebpf":     {"bpf", "maps", "loader", "internal/config/live", "internal/drill"},
	"github.com/BurntSushi/toml": {"internal/config"},
	"github.com/urfave/cli/v2":   {"cmd/tandem", "cmd/tandem-lab"},
	// Test tools.
	"github.com/google/go-cmp":                {},
	"github.com/ti-mo/conntrack":              {},
	"github.com/rogpeppe/go-internal":         {},
	"go.uber.org/goleak":                      {},
	"pgregory.net/rapid":                      {},
	"github.com/HdrHistogram/hdrhistogram-go": {"internal/load", "internal/drill", "internal/benchlab"},
}

// worldly packages give I/O, a clock of their own or chance. A codec or a
// machine does not import them: time and randomness are arguments.
var worldly = []string{
	"context", "crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
	"os", "os/exec", "os/signal", "sync", "syscall",
}

// clocks are what a machine must not take from package time.
var clocks = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}

// pure rooms hold codecs and machines, except in the files named: their runners.
// (vrrp's runner is internal/adverts, syncproto's is internal/link.)
var pure = map[string][]string{
	"vrrp":              {},
	"syncproto":         {},
	"internal/takeover": {"runner.go", "commit.go", "rush.go", "order.go"},
	"internal/vip":      {"conn.go", "garp.go", "local.go", "mac.go", "sysctl.go", "watch.go"},
}

// labOnly must not be linked into the privileged binary.
var labOnly = []string{"internal/netlab", "internal/load", "internal/drill", "internal/benchlab"}
