// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// prefix begins the name of every namespace of this package. A run of its own
// continues it with its process id, so that a later run can tell a living lab
// from what a killed one left; a kept lab continues it with a dash and a name.
const prefix = "tl"

// nsDir is where iproute2 and vishvananda/netns keep named namespaces.
const nsDir = "/run/netns"

var labCount atomic.Uint32

// labPrefix names a lab: kept labs after their name, others after the process.
func labPrefix(name string) string {
	if name != "" {
		return prefix + "-" + name
	}
	return fmt.Sprintf("%s%dx%d", prefix, os.Getpid(), labCount.Add(1))
}

// ownerPID takes the process id out of a namespace's name; ok is false for
// kept labs and for names that are not ours.
func ownerPID(ns string) (pid int, ok bool) {
	rest, found := strings.CutPrefix(ns, prefix)
	if !found {
		return 0, false
	}
	head, tail, found := strings.Cut(rest, "x")
	if !found || !strings.Contains(tail, "-") {
		return 0, false
	}
	pid, err := strconv.Atoi(head)
	return pid, err == nil && pid > 0
}

// Sweep removes the namespaces of runs whose process is no more, and kills
// what still runs in them. It returns the names it removed.
func Sweep() ([]string, error) {
	return removeMatching(Orphaned)
}

// Orphaned says whether a name, of a namespace or of a directory that begins
// with Lab.Prefix and a dash, belongs to a run whose process is no more.
func Orphaned(name string) bool {
	pid, ok := ownerPID(name)
	return ok && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// RemoveKept removes a lab that was made with Options.Keep.
func RemoveKept(name string) ([]string, error) {
	if name == "" {
		return nil, errors.New("remove kept lab: no name given")
	}
	return removeMatching(func(ns string) bool { return isRole(ns, labPrefix(name)) })
}

func isRole(ns, lab string) bool {
	for _, role := range roles {
		if ns == lab+"-"+role {
			return true
		}
	}
	return false
}

func removeMatching(match func(string) bool) (gone []string, err error) {
	for _, name := range Names() {
		if !match(name) {
			continue
		}
		n, openErr := openNamespace(name)
		if openErr != nil {
			// A mount point whose namespace was never made: only the file is left.
			err = errors.Join(err, removeFile(name))
			gone = append(gone, name)
			continue
		}
		n.KillAll()
		err = errors.Join(err, n.remove())
		gone = append(gone, name)
	}
	return gone, err
}

func removeFile(name string) error {
	path := filepath.Join(nsDir, name)
	_ = unix.Unmount(path, unix.MNT_DETACH)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace %q: %w", name, err)
	}
	return nil
}

// Names lists the namespaces of this package that exist on the machine, of
// every run and kept lab.
func Names() []string {
	entries, err := os.ReadDir(nsDir)
	if err != nil {
		return nil // no directory: no namespace was ever named
	}
	var out []string
	for _, e := range entries {
		if _, ours := ownerPID(e.Name()); ours || strings.HasPrefix(e.Name(), prefix+"-") {
			out = append(out, e.Name())
		}
	}
	return out
}

// OpenKept opens the namespace of one host of a kept lab.
func OpenKept(lab, host string) (*Namespace, error) {
	return openNamespace(labPrefix(lab) + "-" + host)
}
