// SPDX-License-Identifier: Apache-2.0

package track

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

// InterfaceID is the thing that an interface is on a Board.
func InterfaceID(name string) string { return interfacePrefix + name }

const interfacePrefix = "interface "

// Links follows the interfaces of this network namespace. A missing one is
// Down, and is followed from the moment that it exists.
type Links struct {
	watch *vip.Watch
	tell  func(name string, level Level, why string) // what did not change as well
	mu    sync.Mutex
	names []string
	links map[int32]vip.Link
}

// OpenLinks subscribes, reads the state, and tells it of each name; Run goes on.
func OpenLinks(names []string, tell func(name string, level Level, why string)) (*Links, error) {
	w, err := vip.OpenWatch()
	if err != nil {
		return nil, err
	}
	l := &Links{watch: w, tell: tell, names: names, links: map[int32]vip.Link{}}
	if err := l.look(true); err != nil {
		w.Close()
		return nil, err
	}
	return l, nil
}

// Close ends the subscription of a Links that does not run.
func (l *Links) Close() error { return l.watch.Close() }

func (l *Links) String() string { return "tracked interfaces" }

// Run tells changes until ctx ends. When the kernel dropped notices (ENOBUFS)
// the whole state is read again: what was missed changes nothing by itself.
func (l *Links) Run(ctx context.Context) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("open eventfd: %w", err)
	}
	defer unix.Close(wake)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		unix.Write(wake, binary.NativeEndian.AppendUint64(nil, 1))
	})
	fds := []unix.PollFd{{Fd: int32(l.watch.FD()), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for notices of links: %w", err)
		}
		if err := l.look(false); err != nil {
			return err
		}
	}
	if !stop() {
		<-ended
	}
	return nil
}

// Follow has it follow other names from now on, and tells of them.
func (l *Links) Follow(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.names = names
	l.say()
}

// look takes in what the kernel reports, or all that there is.
func (l *Links) look(all bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, err := l.watch.Read(l.changed, func(vip.AddressNote) {})
	if all || lost || err != nil {
		if err := l.readAll(); err != nil {
			return err
		}
	}
	l.say()
	return nil
}

func (l *Links) changed(n vip.Link) {
	if n.Deleted {
		delete(l.links, n.Index)
	} else {
		l.links[n.Index] = n
	}
}

func (l *Links) readAll() error {
	list, err := vip.Links()
	if err != nil {
		return err
	}
	clear(l.links)
	for _, n := range list {
		l.links[n.Index] = n
	}
	return nil
}

func (l *Links) say() {
	for _, name := range l.names {
		level, why := judge(name, l.links)
		l.tell(name, level, why)
	}
}

// judge is what the links say of a name.
func judge(name string, links map[int32]vip.Link) (Level, string) {
	for _, n := range links {
		switch {
		case n.Name != name:
		case n.Up:
			return Up, ""
		default:
			return Down, "it is down, or has no carrier"
		}
	}
	return Down, "it does not exist"
}
