// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// setting is one value below /proc/sys/net.
type setting struct {
	family, iface, name, value string
	least                      bool // a greater value of the operator stays
}

func (s setting) path() string {
	return "/proc/sys/net/" + s.family + "/conf/" + s.iface + "/" + s.name
}

func (s setting) read() (string, error) {
	b, err := os.ReadFile(s.path())
	if err != nil {
		return "", fmt.Errorf("read %s of %s: %w", s.name, s.iface, err)
	}
	return string(bytes.TrimSpace(b)), nil
}

func (s setting) write(value string) error {
	if err := os.WriteFile(s.path(), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s of %s: %w", s.name, s.iface, err)
	}
	return nil
}

// settings are values that belong together.
type settings []setting

// apply writes them. A kernel without IPv6 has none of that family.
func (all settings) apply() error {
	var errs []error
	for _, s := range all {
		old, err := s.read()
		switch {
		case errors.Is(err, fs.ErrNotExist) && s.family == "ipv6":
		case err != nil:
			errs = append(errs, err)
		case old != s.value && (!s.least || old < s.value):
			errs = append(errs, s.write(s.value))
		}
	}
	return errors.Join(errs...)
}

// before are the present values of those that apply would change.
func before(all settings) settings {
	out := settings{}
	for _, s := range all {
		if old, err := s.read(); err == nil && old != s.value && (!s.least || old < s.value) {
			s.value = old
			out = append(out, s)
		}
	}
	return out
}

// restore puts former values back where the value is still what set says: what
// the operator has changed meanwhile is his.
func (all settings) restore(set settings) error {
	var errs []error
	for _, s := range all {
		for _, ours := range set {
			if now, err := s.read(); ours.path() == s.path() && err == nil && now == ours.value {
				errs = append(errs, s.write(s.value))
			}
		}
	}
	return errors.Join(errs...)
}

// String is the form that stands in an alias: "arp_ignore=0 arp_filter=0".
func (all settings) String() string {
	var words []string
	for _, s := range all {
		words = append(words, s.name+"="+s.value)
	}
	return strings.Join(words, " ")
}

// parseSettings reads String's form; all are of IPv4. Names come back only as
// they went out.
func parseSettings(iface, text string) settings {
	out := settings{}
	for _, w := range strings.Fields(text) {
		name, value, _ := strings.Cut(w, "=")
		out = append(out, setting{family: "ipv4", iface: iface, name: name, value: value})
	}
	return out
}

// parentSettings keep the parent of a virtual MAC from speaking for the
// addresses on it: it answers ARP for its own addresses only, and asks with
// one of its own, since a question that named a virtual address would teach
// its own MAC to whoever is asked.
func parentSettings(parent string) settings {
	return settings{
		{family: "ipv4", iface: parent, name: "arp_ignore", value: "1", least: true},
		{family: "ipv4", iface: parent, name: "arp_filter", value: "1", least: true},
		{family: "ipv4", iface: parent, name: "arp_announce", value: "2", least: true},
	}
}

// deviceSettings are those of the device itself. Hosts are routed by the
// parent, so the way back is never by the device: the reverse path filter is
// loose there, which beats a strict one of conf.all (the kernel takes the
// greater of the two) and leaves that as it is. Nothing but our addresses is
// to be on it, and it forwards as its parent does.
func (m *MAC) deviceSettings() settings {
	name, v6 := m.Name(), "1"
	if m.Hosts6 {
		v6 = "0"
	}
	out := settings{
		{family: "ipv4", iface: name, name: "arp_ignore", value: "1"},
		{family: "ipv4", iface: name, name: "rp_filter", value: "2"},
		{family: "ipv4", iface: name, name: "promote_secondaries", value: "1"},
		{family: "ipv6", iface: name, name: "addr_gen_mode", value: "1"}, // none
		{family: "ipv6", iface: name, name: "accept_dad", value: "0"},
		{family: "ipv6", iface: name, name: "dad_transmits", value: "0"},
		{family: "ipv6", iface: name, name: "accept_ra", value: "0"},
		{family: "ipv6", iface: name, name: "autoconf", value: "0"},
		{family: "ipv6", iface: name, name: "router_solicitations", value: "0"},
		{family: "ipv6", iface: name, name: "disable_ipv6", value: v6},
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		s := setting{family: family, iface: m.Parent, name: "forwarding"}
		if parent, err := s.read(); err == nil {
			out = append(out, setting{family: family, iface: name, name: "forwarding", value: parent})
		}
	}
	return out
}

// KeepSecondaries sets promote_secondaries on an interface that carries a
// virtual address with a prefix of its own: an address that the operator adds
// to that subnet later is the virtual one's secondary, and without it would be
// deleted together with it, also by the end of a lifetime after kill -9. The
// returned function puts the former value back; a value left behind by a
// killed process does no harm (systemd sets it everywhere).
func KeepSecondaries(iface string) (restore func(), err error) {
	s := setting{family: "ipv4", iface: iface, name: "promote_secondaries", value: "1"}
	old, err := s.read()
	if err != nil {
		return func() {}, err
	}
	if old != "0" {
		return func() {}, nil
	}
	if err := s.write(s.value); err != nil {
		return func() {}, err
	}
	return func() { s.write(old) }, nil
}
