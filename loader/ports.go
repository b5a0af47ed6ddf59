// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	// portsSettle lets a burst of link events pass before the next look.
	portsSettle = 20 * time.Millisecond
	// portsLook is how often attachments are checked: the kernel tells
	// nobody that a tcx link was detached by force.
	portsLook = 3 * time.Second
)

// selection says which interfaces a hook belongs on.
type selection struct {
	include []string // patterns as of path.Match; empty: all
	exclude []string
	exact   bool // include holds names, and nothing else is meant
}

// pick gives the interfaces that s selects: never lo; members of a bond, a
// bridge or a team only by their own name, since their packets pass the
// master too.
func (s selection) pick(links []netlink.Link) (out []netlink.Link) {
	kind := make(map[int]string, len(links))
	for _, l := range links {
		kind[l.Attrs().Index] = l.Type()
	}
	for _, l := range links {
		a := l.Attrs()
		if s.wants(a, isMember(kind[a.MasterIndex])) {
			out = append(out, l)
		}
	}
	return out
}

func (s selection) wants(a *netlink.LinkAttrs, member bool) bool {
	if s.exact {
		return slices.Contains(s.include, a.Name)
	}
	if a.Flags&net.FlagLoopback != 0 || matches(s.exclude, a.Name) {
		return false
	}
	if slices.Contains(s.include, a.Name) {
		return true
	}
	return !member && (len(s.include) == 0 || matches(s.include, a.Name))
}

func isMember(master string) bool {
	return master == "bond" || master == "bridge" || master == "team" || master == "openvswitch"
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// attacher puts a program on an interface of those that there are, in one of
// the ways that it may be put there. Its name is the program's.
type attacher interface {
	fmt.Stringer
	attach(l netlink.Link, all []netlink.Link) (attachment, error)
}

// attachment is a program on one interface. Its name is the rung that it is on.
type attachment interface {
	fmt.Stringer
	lost(all []netlink.Link) (why string) // "": it stands and may stay
	detach() error
}

// port is one interface that the hook is attached to.
type port struct {
	name string
	at   attachment
}

// failure is why it is not attached to one.
type failure struct{ name, why string }

// ports keeps a hook attached to the selected interfaces: late ones, ones that
// went, and those where somebody removed it.
type ports struct {
	ns    namespace
	nl    *netlink.Handle
	hook  attacher
	log   *slog.Logger
	again chan struct{} // watch is to look

	mu       sync.Mutex
	sel      selection
	byIndex  map[int]port
	lost     map[int]string  // had one, and why no longer
	failed   map[int]failure // the last error by interface, logged once
	attached uint64          // times, restored included
	restored uint64
	left     string // not "": why it is attached nowhere, for good
}

func newPorts(ns namespace, nl *netlink.Handle, h attacher, sel selection, log *slog.Logger) *ports {
	return &ports{ns: ns, nl: nl, hook: h, sel: sel, log: log, again: make(chan struct{}, 1), byIndex: map[int]port{}, lost: map[int]string{}, failed: map[int]failure{}}
}

// sync attaches and detaches until what is matches the selection. The calling
// thread is in the namespace.
func (p *ports) sync() error {
	links, err := p.nl.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list interfaces: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left != "" {
		return nil
	}
	wanted := map[int]netlink.Link{}
	for _, l := range p.sel.pick(links) {
		wanted[l.Attrs().Index] = l
	}
	p.drop(wanted)
	var errs []error
	for i, l := range wanted {
		errs = append(errs, p.ensure(i, l, links))
	}
	return errors.Join(errs...)
}

// drop detaches from what is no longer wanted or no longer there.
func (p *ports) drop(wanted map[int]netlink.Link) {
	for i, at := range p.byIndex {
		if wanted[i] == nil {
			_ = at.at.detach()
			delete(p.byIndex, i)
			p.log.Info("left interface", "program", p.hook, "interface", at.name)
		}
	}
	for i := range p.failed {
		if wanted[i] == nil {
			delete(p.failed, i)
		}
	}
	for i := range p.lost {
		if wanted[i] == nil {
			delete(p.lost, i)
		}
	}
}

// ensure attaches to one interface unless that stands.
func (p *ports) ensure(i int, l netlink.Link, all []netlink.Link) error {
	name := l.Attrs().Name
	if old, had := p.byIndex[i]; had {
		why := old.at.lost(all)
		if why == "" {
			return nil
		}
		_ = old.at.detach()
		delete(p.byIndex, i)
		p.lost[i] = why
	}
	at, err := p.hook.attach(l, all)
	if err != nil {
		if p.failed[i].why != err.Error() {
			p.log.Warn("cannot attach", "error", err)
		}
		p.failed[i] = failure{name, err.Error()}
		return err
	}
	delete(p.failed, i)
	p.byIndex[i] = port{name, at}
	p.attached++
	if why, lost := p.lost[i]; lost { // perhaps not at the first attempt: what is removed goes a moment later
		delete(p.lost, i)
		p.restored++
		p.log.Warn("our program was lost; attached again", "program", p.hook, "interface", name, "rung", at, "reason", why)
	} else {
		p.log.Debug("attached", "program", p.hook, "interface", name, "rung", at)
	}
	return nil
}

// watch keeps them in step with the namespace's interfaces until ctx ends.
func (p *ports) watch(ctx context.Context) error {
	if err := p.ns.enter(); err != nil {
		return err
	}
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{Namespace: &p.ns.ns})
	if err != nil {
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // until its goroutine has closed it
		}
	}()
	tick := time.NewTicker(portsLook)
	defer tick.Stop()
	for {
		_ = p.sync() // logged there
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-p.again:
		case _, ok := <-updates:
			if !ok {
				return errors.New("subscription to link events ended")
			}
			settle(ctx, updates)
		}
	}
}

// choose selects otherwise; watch attaches and detaches.
func (p *ports) choose(sel selection) {
	p.mu.Lock()
	p.sel = sel
	p.mu.Unlock()
	select {
	case p.again <- struct{}{}:
	default: // it is about to look
	}
}

// settle swallows events until none comes for a moment.
func settle(ctx context.Context, updates <-chan netlink.LinkUpdate) {
	timer := time.NewTimer(portsSettle)
	defer timer.Stop()
	for {
		select {
		case _, ok := <-updates:
			if !ok {
				return
			}
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// leave detaches from all for good.
func (p *ports) leave(why string) {
	p.mu.Lock()
	p.left = why
	p.mu.Unlock()
	_ = p.close()
}

// close detaches from all.
func (p *ports) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i, at := range p.byIndex {
		errs = append(errs, at.at.detach())
		delete(p.byIndex, i)
	}
	return errors.Join(errs...)
}

// attachments counts how often the hook was attached to something.
func (p *ports) attachments() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.attached
}

// names lists the interfaces, sorted.
func (p *ports) names() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, at := range p.byIndex {
		names = append(names, at.name)
	}
	slices.Sort(names)
	return names
}
