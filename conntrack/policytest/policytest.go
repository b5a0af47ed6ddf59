// SPDX-License-Identifier: Apache-2.0

// Package policytest holds the table of cases that both executors of
// conntrack.Policy are run through. It is for tests: it decides nothing.
package policytest

import (
	_ "embed"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/tandem-ha/tandem/conntrack"
	"golang.org/x/sys/unix"
)

//go:embed testdata/policy.txt
var table string

// Case is one line of testdata/policy.txt.
type Case struct {
	Name   string // line number and text behind #
	Policy conntrack.Policy
	Flow   conntrack.Flow
	Want   conntrack.Verdict
}

// Cases gives all cases; a line that cannot be read fails the test.
func Cases(t testing.TB) []Case {
	t.Helper()
	cases, err := parse(table)
	if err != nil {
		t.Fatalf("read policy.txt: %v", err)
	}
	return cases
}

func parse(text string) (cases []Case, err error) {
	var policy *conntrack.Policy
	for i, line := range strings.Split(text, "\n") {
		line, comment, _ := strings.Cut(line, "#")
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0:
			continue
		case fields[0] == "policy":
			policy, err = parsePolicy(fields[1:])
		case policy == nil:
			err = fmt.Errorf("case before the first policy")
		default:
			var c Case
			c, err = parseCase(fields)
			c.Policy, c.Name = *policy, fmt.Sprintf("%d %s", i+1, strings.TrimSpace(comment))
			cases = append(cases, c)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return cases, nil
}

var whens = map[string]conntrack.When{"new": conntrack.WhenNew, "replied": conntrack.WhenReplied, "assured": conntrack.WhenAssured}

func parsePolicy(fields []string) (*conntrack.Policy, error) {
	p := &conntrack.Policy{}
	for _, field := range fields {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "protocols":
			err = parseProtocols(value, p)
		case "tcp":
			p.TCP, err = lookup(whens, value)
		case "other":
			p.Other, err = lookup(whens, value)
		case "ignore":
			err = parsePrefixes(value, p)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

func parseProtocols(value string, p *conntrack.Policy) error {
	for _, name := range strings.Split(value, ",") {
		if name == "all" {
			p.Protocols = conntrack.DefaultPolicy().Protocols
			continue
		}
		proto, err := parseProtocol(name)
		if err != nil {
			return err
		}
		p.Protocols[proto] = true
	}
	return nil
}

func parsePrefixes(value string, p *conntrack.Policy) error {
	for _, s := range strings.Split(value, ",") {
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return err
		}
		p.Ignore = append(p.Ignore, prefix)
	}
	return nil
}

var verdicts = map[string]conntrack.Verdict{"ignore": conntrack.Ignore, "replicate": conntrack.Replicate, "gone": conntrack.Gone}

func parseCase(fields []string) (c Case, err error) {
	if len(fields) != 7 && len(fields) != 8 {
		return c, fmt.Errorf("%d fields, want 7 or 8", len(fields))
	}
	if c.Want, err = lookup(verdicts, fields[0]); err != nil {
		return c, err
	}
	f := &c.Flow
	if f.Proto, err = parseProtocol(fields[1]); err != nil {
		return c, err
	}
	if f.TCP.State, err = lookup(states, fields[2]); err != nil {
		return c, err
	}
	if f.Status, err = parseStatus(fields[3]); err != nil {
		return c, err
	}
	f.Timeout = 60
	if f.Orig, f.Family, err = parseTuple(fields[4], fields[5]); err != nil {
		return c, err
	}
	if fields[6] == "-" {
		f.Reply = inverse(f)
		return c, nil
	}
	f.Reply, _, err = parseTuple(fields[6], fields[7])
	return c, err
}

// inverse is the reply of an untranslated flow; an echo is answered by its
// reply.
func inverse(f *conntrack.Flow) conntrack.Tuple {
	t := conntrack.Tuple{Src: f.Orig.Dst, Dst: f.Orig.Src, SrcPort: f.Orig.DstPort, DstPort: f.Orig.SrcPort}
	switch f.Proto {
	case unix.IPPROTO_ICMP:
		t.SrcPort, t.DstPort = f.Orig.SrcPort, 0
	case unix.IPPROTO_ICMPV6:
		t.SrcPort, t.DstPort = f.Orig.SrcPort, 129<<8
	}
	return t
}

func parseTuple(src, dst string) (t conntrack.Tuple, family uint8, err error) {
	s, err := netip.ParseAddrPort(src)
	if err != nil {
		return t, 0, err
	}
	d, err := netip.ParseAddrPort(dst)
	if err != nil {
		return t, 0, err
	}
	family = conntrack.IPv6
	if s.Addr().Is4() {
		family = conntrack.IPv4
	}
	t = conntrack.Tuple{Src: conntrack.AddrFrom(s.Addr()), Dst: conntrack.AddrFrom(d.Addr()), SrcPort: s.Port(), DstPort: d.Port()}
	return t, family, nil
}

var states = map[string]conntrack.TCPState{
	"-": conntrack.TCPNone, "NONE": conntrack.TCPNone, "SYN_SENT": conntrack.TCPSynSent, "SYN_RECV": conntrack.TCPSynRecv,
	"ESTABLISHED": conntrack.TCPEstablished, "FIN_WAIT": conntrack.TCPFinWait, "CLOSE_WAIT": conntrack.TCPCloseWait,
	"LAST_ACK": conntrack.TCPLastAck, "TIME_WAIT": conntrack.TCPTimeWait, "CLOSE": conntrack.TCPClose,
}

var bits = map[string]conntrack.Status{
	"-": 0, "seen": conntrack.SeenReply, "assured": conntrack.Assured, "dying": conntrack.Dying,
	"template": conntrack.Template, "fixed": conntrack.FixedTimeout,
}

func parseStatus(value string) (conntrack.Status, error) {
	status := conntrack.Confirmed
	for _, name := range strings.Split(value, "+") {
		bit, err := lookup(bits, name)
		if err != nil {
			return 0, err
		}
		status |= bit
	}
	return status, nil
}

var protocols = map[string]uint8{
	"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP, "icmpv6": unix.IPPROTO_ICMPV6,
	"sctp": unix.IPPROTO_SCTP, "gre": unix.IPPROTO_GRE, "esp": unix.IPPROTO_ESP,
}

func parseProtocol(name string) (uint8, error) {
	if n, err := strconv.ParseUint(name, 10, 8); err == nil {
		return uint8(n), nil
	}
	return lookup(protocols, name)
}

func lookup[V any](m map[string]V, name string) (V, error) {
	v, ok := m[name]
	if !ok {
		return v, fmt.Errorf("unknown word %q", name)
	}
	return v, nil
}
