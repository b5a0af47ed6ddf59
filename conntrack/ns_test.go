// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// newNamespace moves the test to a thread of its own in a new network
// namespace. The thread ends with the test's goroutine, and the namespace with
// the last socket opened in it: nothing has a name, so nothing can be left.
// Subtests run on other threads: they need one of their own.
func newNamespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread is not used again
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare network namespace: %v", err)
	}
}

// openTable opens the kernel table of the current namespace until the test
// ends.
func openTable(t testing.TB) *Table {
	t.Helper()
	table, err := Open()
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { table.Close() })
	return table
}

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		println("conntrack: these tests ask the kernel and need root")
		os.Exit(1)
	}
	os.Exit(m.Run())
}
