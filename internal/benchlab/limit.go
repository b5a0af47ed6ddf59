// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile is the machine's limit of kernel table entries; all namespaces share
// it, and only the machine's own may write it.
const maxFile = "/proc/sys/net/netfilter/nf_conntrack_max"

// undoFiles remember, by the process that raised the limit, what it was and
// what it became: a run that was killed is undone by the next.
const undoFiles = "/run/tandem-lab-max-"

// raiseMax raises the limit; the returned function puts it back unless somebody
// else changed it meanwhile.
func raiseMax(want int) (restore func() error, err error) {
	runtime.LockOSThread() // in the machine's own namespace, as every unlocked thread
	defer runtime.UnlockOSThread()
	if err := undoKilled(); err != nil {
		return nil, err
	}
	before, err := readMax()
	if err != nil || before >= want {
		return func() error { return nil }, err
	}
	undo := undoFiles + strconv.Itoa(os.Getpid())
	if err := os.WriteFile(undo, fmt.Appendf(nil, "%d %d", before, want), 0o600); err != nil {
		return nil, fmt.Errorf("remember nf_conntrack_max: %w", err)
	}
	if err := writeMax(want); err != nil {
		return nil, errors.Join(err, os.Remove(undo))
	}
	return func() error { return undoMax(undo) }, nil
}

// undoKilled undoes what processes that are no more did.
func undoKilled() (err error) {
	files, _ := filepath.Glob(undoFiles + "*")
	for _, f := range files {
		pid, atoiErr := strconv.Atoi(strings.TrimPrefix(f, undoFiles))
		if atoiErr == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			err = errors.Join(err, undoMax(f))
		}
	}
	return err
}

func undoMax(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("put back nf_conntrack_max: %w", err)
	}
	var before, raised int
	if _, err := fmt.Sscan(string(text), &before, &raised); err != nil {
		return errors.Join(fmt.Errorf("put back nf_conntrack_max: %s says %q", file, text), os.Remove(file))
	}
	now, err := readMax()
	if err == nil && now == raised {
		err = writeMax(before)
	}
	return errors.Join(err, os.Remove(file))
}

func readMax() (int, error) {
	text, err := os.ReadFile(maxFile)
	if err != nil {
		return 0, fmt.Errorf("read nf_conntrack_max: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

func writeMax(n int) error {
	if err := os.WriteFile(maxFile, []byte(strconv.Itoa(n)), 0); err != nil {
		return fmt.Errorf("set nf_conntrack_max to %d: %w", n, err)
	}
	return nil
}
