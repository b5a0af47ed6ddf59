// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// DefaultPath is read when no other file is named.
const DefaultPath = "/etc/tandem/tandem.toml"

// maxSize bounds a file that is certainly not a configuration.
const maxSize = 1 << 20

// DefaultSocket is the control socket when the file names none.
const DefaultSocket = "/run/tandem/tandem.sock"

// Load reads and validates a file. The error joins every refusal, one line
// each, in the order of the file:
//
//	/etc/tandem/tandem.toml:7: vrrp.group.LAN.vrid: 300: must be a whole number from 1 to 255
func Load(path string) (*Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w (docs/tandem.toml is a sample to start from)", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxSize {
		return nil, fmt.Errorf("read configuration: %s: not a regular file of at most 1 MiB", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return parse(path, string(text))
}

// parse is Load without the file. Its order is that of the sample.
func parse(path, text string) (*Config, error) {
	d, root, err := newDocument(path, text)
	if err != nil {
		return nil, err
	}
	c := &Config{Path: path, lines: d.lines}
	c.Node = readNode(root.table("node"))
	vrrp := root.table("vrrp")
	sync := root.table("conntrack-sync")
	readVRRP(&c.VRRP, vrrp)
	if sync != nil {
		c.Sync = readSync(sync)
	}
	c.Hooks = readHooks(root.table("hooks"))
	c.Capture = readCapture(root.table("capture"))
	c.Control = readControl(root.table("control"))
	c.Metrics = readMetrics(root.table("metrics"))
	c.Log = readLog(root.table("log"))
	root.finish()
	checkVRRP(root, &c.VRRP, c.Sync != nil && c.Sync.External)
	checkTracking(root, &c.VRRP)
	checkSync(root, c)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

const nameRule = "a name of 1 to 63 letters, digits, dots, dashes and underscores"

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)
	// As the kernel's dev_valid_name, without what a shell would stumble on.
	linkForm = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,15}$`)
	globForm = regexp.MustCompile(`^[A-Za-z0-9._@*-]{1,32}$`)
)

const linkRule = "the name of an interface, at most 15 characters"

func isName(s string) bool { return nameForm.MatchString(s) }
func isLink(s string) bool { return linkForm.MatchString(s) && s != "." && s != ".." }

func readNode(t *table) Node {
	defer t.finish()
	n := Node{Name: t.text("name", "", nameRule, isName)}
	if n.Name == "" && !t.has("name") {
		// An unusable host name (a VM's, a container's) is replaced, not
		// refused: the name is for people only.
		if n.Name, _ = os.Hostname(); !isName(n.Name) {
			n.Name = "node"
		}
	}
	return n
}

func readCapture(t *table) Capture {
	defer t.finish()
	c := Capture{
		Mode:      t.choice("mode", "auto", "auto", "tc", "tracing", "netlink"),
		Advert:    t.choice("advert", "auto", "auto", "tc", "socket", "xdp"),
		Interface: t.globs("interface"),
		Exclude:   t.globs("exclude"),
	}
	if c.Interface == nil {
		c.Interface = []string{"*"}
	}
	if c.Mode == "tracing" || c.Mode == "netlink" {
		t.refuse("mode", c.Mode, `not in this version of tandem yet: write "auto" or "tc"`)
	}
	return c
}

// globs gives names of interfaces, * allowed.
func (t *table) globs(name string) []string {
	l, ok := t.list(name)
	for _, s := range l {
		if !globForm.MatchString(s) {
			t.refuse(name, s, `must be names of interfaces, * stands for any characters, as "eth*"`)
		}
	}
	if ok && name == "interface" && len(l) == 0 {
		t.fault(name, `empty list: name at least one interface, or "*" for all`)
	}
	return l
}

// maxSocketPath is what fits sockaddr_un.sun_path with its final zero.
const maxSocketPath = 107

func readControl(t *table) Control {
	defer t.finish()
	return Control{Socket: t.text("socket", DefaultSocket, "an absolute path of at most 107 bytes", func(s string) bool {
		return filepath.IsAbs(s) && len(s) <= maxSocketPath && !strings.ContainsRune(s, 0)
	})}
}

func readMetrics(t *table) Metrics {
	defer t.finish()
	l, _ := t.list("listen")
	for _, s := range l {
		host, port, err := net.SplitHostPort(s)
		n, perr := strconv.ParseUint(port, 10, 16)
		if err != nil || perr != nil || n == 0 || (host != "" && net.ParseIP(host) == nil) {
			t.refuse("listen", s, `must be an address and a port, as "127.0.0.1:9817" or "[::1]:9817"`)
		}
	}
	return Metrics{Listen: l}
}

func readLog(t *table) Log {
	defer t.finish()
	return Log{Level: t.choice("level", "info", "debug", "info", "warn", "error")}
}

// Bounds of delays, as VyOS has them.
const (
	maxPreemptDelay = 1000 * time.Second
	maxStartupDelay = 600 * time.Second
)
