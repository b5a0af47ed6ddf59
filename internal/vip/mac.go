// SPDX-License-Identifier: Apache-2.0

package vip

import (
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MAC is a virtual MAC address on the wire of its parent: a macvlan device
// that carries a group's addresses. It is down unless the group is Active, so
// that a Backup neither answers by it, nor takes frames that are sent to it,
// nor sends anything from it; and whoever sets it up by hand finds it mute.
//
// Adverts do not leave by the device but by the parent, with the virtual MAC
// as their source: the first one need not wait until the device is up.
//
// The mode is VEPA, not private. The two send alike; but in private mode the
// kernel gives a multicast frame whose source is the MAC of a device that is
// up to that device alone, and those are the adverts of another Active of the
// group: neither would see the other.
type MAC struct {
	Parent string
	VRID   uint8
	V6     bool // the group's family: which of the two MACs
	Hosts6 bool // IPv6 addresses go onto it

	undo   settings // of the parent, by the first Create
	bridge int      // the parent's index where it is a bridge
}

// aliasMark begins the alias (`ip -d link`) of our devices; the parent's
// former settings follow it, so that whoever removes the device after a crash
// knows them.
const aliasMark = "tandem virtual MAC"

// Addr is the virtual router's MAC address, RFC 9568 section 7.3.
func (m *MAC) Addr() [6]byte {
	if m.V6 {
		return [6]byte{0, 0, 0x5e, 0, 2, m.VRID}
	}
	return [6]byte{0, 0, 0x5e, 0, 1, m.VRID}
}

// Name is the device's: "eth0v10v4", as VyOS has it. Where that is longer
// than a name may be, a hash stands for the parent: "t1a2b3c4dv10v4".
func (m *MAC) Name() string {
	family := 4
	if m.V6 {
		family = 6
	}
	name := fmt.Sprintf("%sv%dv%d", m.Parent, m.VRID, family)
	if len(name) < unix.IFNAMSIZ {
		return name
	}
	h := fnv.New32a()
	h.Write([]byte(m.Parent))
	return fmt.Sprintf("t%08xv%dv%d", h.Sum32(), m.VRID, family)
}

// Create makes the device, down and mute, sets what it needs of its parent, and
// gives its index. What a killed process left of it is replaced.
func (m *MAC) Create() (index int32, err error) {
	parent, err := netlink.LinkByName(m.Parent)
	if err != nil {
		return 0, fmt.Errorf("create virtual MAC device %q: find parent %q: %w", m.Name(), m.Parent, err)
	}
	if err := m.clear(parent); err != nil {
		return 0, err
	}
	mac := m.Addr()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.HardwareAddr = m.Name(), parent.Attrs().Index, mac[:]
	if m.bridge = 0; parent.Type() == "bridge" {
		m.bridge = attrs.ParentIndex
	}
	link := &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_VEPA}
	if err := netlink.LinkAdd(link); err != nil {
		return 0, fmt.Errorf("create virtual MAC device %q on %q: %w", m.Name(), m.Parent, explain(err))
	}
	if err := m.prepare(link, parent); err != nil {
		return 0, errors.Join(fmt.Errorf("prepare virtual MAC device %q: %w", m.Name(), err), netlink.LinkDel(link))
	}
	return int32(link.Index), nil
}

func (m *MAC) prepare(link *netlink.Macvlan, parent netlink.Link) error {
	if m.undo == nil {
		m.undo = before(parentSettings(m.Parent))
	}
	// Before the parent is touched: see aliasMark.
	if err := netlink.LinkSetAlias(link, m.alias()); err != nil {
		return fmt.Errorf("set alias: %w", err)
	}
	if err := m.join(link, parent); err != nil {
		return err
	}
	if err := mute(link.Index); err != nil {
		return err
	}
	return errors.Join(m.deviceSettings().apply(), parentSettings(m.Parent).apply())
}

func (m *MAC) alias() string { return strings.TrimSpace(aliasMark + " " + m.undo.String()) }

// explain adds what an operator can do.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: is it a port of a bridge or bond? The group belongs on that", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the kernel has no macvlan (CONFIG_MACVLAN)", err)
	}
	return err
}

// clear removes a device of that name if it is ours: by its alias, or made by
// a process that was killed before it set one.
func (m *MAC) clear(parent netlink.Link) error {
	old, err := netlink.LinkByName(m.Name())
	if err != nil {
		return nil
	}
	a := old.Attrs()
	mac := m.Addr()
	unfinished := old.Type() == "macvlan" && a.Alias == "" && a.ParentIndex == parent.Attrs().Index &&
		string(a.HardwareAddr) == string(mac[:]) && a.RawFlags&unix.IFF_UP == 0
	if !isOurs(old) && !unfinished {
		return fmt.Errorf("create virtual MAC device %q: there is one of that name which is not tandem's (%s): does another program run VRRP here?",
			m.Name(), old.Type())
	}
	if m.undo == nil && isOurs(old) {
		m.undo = undoOf(old, m.Parent)
	}
	if err := netlink.LinkDel(old); err != nil {
		return fmt.Errorf("remove virtual MAC device %q of a former run: %w", m.Name(), err)
	}
	return nil
}

// join puts the device into its parent's VRF.
func (m *MAC) join(link, parent netlink.Link) error {
	i := parent.Attrs().MasterIndex
	if i == 0 {
		return nil
	}
	master, err := netlink.LinkByIndex(i)
	if err != nil || master.Type() != "vrf" {
		return err
	}
	return netlink.LinkSetMasterByIndex(link, i)
}

func isOurs(l netlink.Link) bool {
	return l.Type() == "macvlan" && strings.HasPrefix(l.Attrs().Alias, aliasMark)
}

// undoOf reads what Create wrote into the alias.
func undoOf(l netlink.Link, parent string) settings {
	return parseSettings(parent, strings.TrimPrefix(l.Attrs().Alias, aliasMark))
}

// blackhole drops whatever leaves, IGMP and MLD too. It is in every kernel
// that has qdiscs.
func blackhole(index int) netlink.Qdisc {
	return &netlink.GenericQdisc{QdiscType: "blackhole", QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Parent: netlink.HANDLE_ROOT, Handle: netlink.MakeHandle(Proto, 0)}}
}

func mute(index int) error {
	if err := netlink.QdiscReplace(blackhole(index)); err != nil {
		return fmt.Errorf("set the qdisc that drops what leaves: %w", err)
	}
	return nil
}

// Mute lets nothing leave by the device any more; it goes on receiving. One
// that is gone is mute.
func (m *MAC) Mute(index int32) error {
	if err := mute(int(index)); !errors.Is(err, unix.ENODEV) {
		return m.named("mute", err)
	}
	return nil
}

// Up lets the device speak and listen: the group is Active.
func (m *MAC) Up(index int32) error {
	if err := netlink.QdiscDel(blackhole(int(index))); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return m.named("set up", fmt.Errorf("remove the qdisc that drops what leaves: %w", err))
	}
	if m.bridge != 0 {
		if err := netlink.NeighSet(entry(m.bridge, m.Addr())); err != nil {
			return m.named("set up", fmt.Errorf("tell the bridge: %w", err))
		}
	}
	return m.named("set up", netlink.LinkSetUp(byIndex(index)))
}

// entry says to a bridge that a MAC is the router's own: else it would flood
// what is sent to it, or send it where the last Active was.
func entry(bridge int, mac [6]byte) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: bridge, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
		Flags: netlink.NTF_SELF, HardwareAddr: mac[:]}
}

// Down takes the device off the wire, and mutes it for the next time. A device
// that is gone is down.
func (m *MAC) Down(index int32) error {
	err := netlink.LinkSetDown(byIndex(index))
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	if m.bridge != 0 {
		netlink.NeighDel(entry(m.bridge, m.Addr())) // one that is not there, or a bridge that is gone
	}
	return m.named("set down", errors.Join(err, mute(int(index))))
}

func (m *MAC) named(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s virtual MAC device %q: %w", what, m.Name(), err)
	}
	return nil
}

func byIndex(index int32) netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: int(index)}}
}

// IsUp asks the kernel whether the device is up now.
func (m *MAC) IsUp(index int32) bool {
	l, err := netlink.LinkByIndex(int(index))
	return err == nil && l.Attrs().RawFlags&unix.IFF_UP != 0
}

// Bequeath leaves it to another device on the same parent (index 0: it is not
// there) to put back what the parent had.
func (m *MAC) Bequeath(heir *MAC, index int32) error {
	heir.undo, m.undo = append(heir.undo, m.undo...), nil
	if index == 0 {
		return nil
	}
	return heir.named("set alias of", netlink.LinkSetAlias(byIndex(index), heir.alias()))
}

// Remove removes the device (index 0: it is not there), and puts back what its
// parent had.
func (m *MAC) Remove(index int32) error {
	var err error
	if index != 0 {
		err = m.Down(index) // tells the bridge
		if gone := netlink.LinkDel(byIndex(index)); !errors.Is(gone, unix.ENODEV) {
			err = errors.Join(err, m.named("remove", gone))
		}
	}
	return errors.Join(err, m.undo.restore(parentSettings(m.Parent)))
}

// RemoveMACs removes every virtual MAC device from this network namespace,
// whoever made it, and puts back what their parents had. It says how many
// there were.
func RemoveMACs() (int, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	byNumber := make(map[int]netlink.Link, len(links))
	for _, l := range links {
		byNumber[l.Attrs().Index] = l
	}
	n := 0
	var all []error
	for _, l := range links {
		if !isOurs(l) {
			continue
		}
		n++
		if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
			all = append(all, fmt.Errorf("remove virtual MAC device %q: %w", l.Attrs().Name, err))
			continue
		}
		parent := byNumber[l.Attrs().ParentIndex]
		if parent == nil {
			continue
		}
		if mac := l.Attrs().HardwareAddr; parent.Type() == "bridge" && len(mac) == 6 {
			netlink.NeighDel(entry(parent.Attrs().Index, [6]byte(mac)))
		}
		name := parent.Attrs().Name
		all = append(all, undoOf(l, name).restore(parentSettings(name)))
	}
	return n, errors.Join(all...)
}
