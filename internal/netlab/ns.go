// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is one named network namespace.
type Namespace struct {
	Name   string
	handle netns.NsHandle
	nl     *netlink.Handle
	inode  uint64
	halted atomic.Bool // its router is without power
}

// newNamespace makes and names a namespace, loopback up.
func newNamespace(name string) (*Namespace, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open own namespace: %w", err)
	}
	defer home.Close()
	h, err := netns.NewNamed(name)
	if backErr := netns.Set(home); backErr != nil {
		panic(fmt.Sprintf("netlab: return to own namespace: %v", backErr))
	}
	if err != nil {
		return nil, fmt.Errorf("make namespace %q: %w", name, err)
	}
	n, err := adopt(name, h)
	if err != nil {
		return nil, err
	}
	lo, err := n.nl.LinkByName("lo")
	if err == nil {
		err = n.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set loopback of %q up: %w", name, err), n.remove())
	}
	return n, nil
}

// openNamespace opens one that exists.
func openNamespace(name string) (*Namespace, error) {
	h, err := netns.GetFromPath(filepath.Join(nsDir, name))
	if err != nil {
		return nil, fmt.Errorf("open namespace %q: %w", name, err)
	}
	return adopt(name, h)
}

func adopt(name string, h netns.NsHandle) (*Namespace, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(h), &st); err != nil {
		h.Close()
		return nil, fmt.Errorf("stat namespace %q: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(h, unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("open rtnetlink in %q: %w", name, err)
	}
	return &Namespace{Name: name, handle: h, nl: nl, inode: st.Ino}, nil
}

// remove takes the name and our handles away. The namespace ends when the last
// process and socket in it has.
func (n *Namespace) remove() error {
	n.nl.Close()
	n.handle.Close()
	return removeFile(n.Name)
}

// Netlink is an rtnetlink handle inside of the namespace, to be closed by the
// Lab only.
func (n *Namespace) Netlink() *netlink.Handle { return n.nl }

// Run calls fn on a thread that is in the namespace. Sockets that fn opens stay
// there and may be used from anywhere; goroutines that fn starts do not.
func (n *Namespace) Run(fn func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(n.handle); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %q: %w", n.Name, err)
	}
	defer func() {
		// A thread that cannot go home stays locked: it ends with its goroutine.
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}

// Sysctl writes values below /proc/sys, keys with slashes, e.g.
// "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(kv ...[2]string) error {
	return n.Run(func() error {
		for _, s := range kv {
			if err := os.WriteFile("/proc/sys/"+s[0], []byte(s[1]), 0); err != nil {
				return fmt.Errorf("set sysctl %s=%s in %q: %w", s[0], s[1], n.Name, err)
			}
		}
		return nil
	})
}

// ReadSysctl reads one value below /proc/sys.
func (n *Namespace) ReadSysctl(key string) (value string, err error) {
	err = n.Run(func() error {
		b, err := os.ReadFile("/proc/sys/" + key)
		value = strings.TrimSpace(string(b))
		return err
	})
	return value, err
}

// PIDs lists the processes whose network namespace this is, our own excepted.
func (n *Namespace) PIDs() []int {
	want := fmt.Sprintf("net:[%d]", n.inode)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if got, err := os.Readlink("/proc/" + e.Name() + "/ns/net"); err == nil && got == want {
			out = append(out, pid)
		}
	}
	return out
}

// halt makes every process in the namespace stand still, for good: Stop, KillAll
// and the lab's end kill it.
func (n *Namespace) halt() {
	n.halted.Store(true)
	for seen := 0; ; {
		pids := n.PIDs()
		sendAll(pids, unix.SIGSTOP)
		if len(pids) <= seen { // none was born meanwhile
			return
		}
		seen = len(pids)
	}
}

// KillAll sends SIGKILL to every process in the namespace until there is none,
// for at most two seconds.
func (n *Namespace) KillAll() {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		pids := n.PIDs()
		if len(pids) == 0 {
			return
		}
		sendAll(pids, unix.SIGKILL)
		time.Sleep(time.Millisecond)
	}
}

func sendAll(pids []int, sig unix.Signal) {
	for _, p := range pids {
		_ = unix.Kill(p, sig) // gone already: what we want
	}
}
