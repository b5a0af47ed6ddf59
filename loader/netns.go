// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netns"
)

// namespace is the network namespace that something was opened in. Links are
// attached in the namespace of the calling thread, so goroutines started
// later have to enter it.
type namespace struct {
	ns   netns.NsHandle
	open bool
}

func currentNamespace() (namespace, error) {
	ns, err := netns.Get()
	if err != nil {
		return namespace{}, fmt.Errorf("open network namespace: %w", err)
	}
	return namespace{ns, true}, nil
}

// enter locks the goroutine to its thread and moves that there. It is never
// undone: the thread ends with the goroutine.
func (n namespace) enter() error {
	runtime.LockOSThread()
	now, err := netns.Get()
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer now.Close()
	if now.Equal(n.ns) {
		runtime.UnlockOSThread()
		return nil
	}
	if err := netns.Set(n.ns); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return nil
}

func (n namespace) close() {
	if n.open {
		n.ns.Close()
	}
}
