// SPDX-License-Identifier: Apache-2.0

package live

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/link"
)

// ports tries to take what the daemon would take, and gives it back.
func (a *asker) ports() string {
	if a.daemon != nil {
		return "held by the tandem that is running"
	}
	if err := control.Free(a.cfg.Control.Socket); err != nil {
		a.fail(fmt.Sprintf("%s: %v", a.cfg.Where("control", "socket"), err))
	}
	if a.cfg.Sync != nil {
		for _, l := range a.cfg.Sync.Links {
			a.syncPort(l)
		}
	}
	for _, addr := range a.cfg.Metrics.Listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			a.fail(fmt.Sprintf("%s: %q: %s", a.cfg.Where("metrics", "listen"), addr, a.taken("tcp", addr, err)))
			continue
		}
		_ = l.Close()
	}
	return "free"
}

// keyFile asks whether the sync link can be sealed.
func (a *asker) keyFile() string {
	if a.cfg.Sync == nil || a.cfg.Sync.KeyFile == "" {
		return "none is configured"
	}
	if _, err := link.LoadSecrets(a.cfg.Sync.KeyFile); err != nil {
		a.fail(fmt.Sprintf("%s: %v", a.cfg.Where("conntrack-sync", "key-file"), err))
	}
	return "readable by its owner only"
}

func (a *asker) syncPort(l config.Link) {
	addr := net.JoinHostPort("", strconv.Itoa(int(l.Port)))
	if l.Listen.IsValid() {
		addr = netip.AddrPortFrom(l.Listen, l.Port).String()
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), l.Interface) })
		return errors.Join(cerr, err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp", addr)
	if errors.Is(err, unix.ENODEV) {
		return // said already
	}
	if err != nil {
		a.fail(fmt.Sprintf("%s: UDP %d on %s %s", a.cfg.Where("conntrack-sync", "interface", l.Interface, "port"), l.Port, l.Interface,
			a.taken("udp", addr, err)))
		return
	}
	_ = c.Close()
}

// taken says why a port cannot be had, and who has it.
func (a *asker) taken(proto, addr string, err error) string {
	if !errors.Is(err, unix.EADDRINUSE) {
		return fmt.Sprintf("cannot be opened: %v", plain(err))
	}
	_, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	if who := holder(proto, uint16(n)); who != "" {
		return "is taken by " + who + ": stop that, or choose another port (on every node)"
	}
	return "is taken by another program: stop that, or choose another port (on every node)"
}

// holder names the process that has a port, by the kernel's table of sockets
// and the descriptors of processes; "" when it cannot be found.
func holder(proto string, port uint16) string {
	for _, family := range []string{"", "6"} {
		text, err := os.ReadFile("/proc/net/" + proto + family)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				continue
			}
			if who := processOf("socket:[" + f[9] + "]"); who != "" {
				return who
			}
		}
	}
	return ""
}

func processOf(socket string) string {
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == socket {
			pid := strings.Split(fd, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}
