// SPDX-License-Identifier: Apache-2.0

package live

import (
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/tandem-ha/tandem/loader"
)

// xdp says what advert = "xdp" comes to on a group's interface.
func (a *asker) xdp(l netlink.Link, all []netlink.Link) {
	name := l.Attrs().Name
	about := func(format string, args ...any) {
		a.warn(fmt.Sprintf("%s: xdp on %q: ", a.cfg.Where("capture", "advert"), name) + fmt.Sprintf(format, args...))
	}
	switch none, generic := loader.ForetellXDP(l, all); {
	case none != nil:
		about("%v: adverts are taken by TC there", none)
	case generic != nil:
		about("%v: the program is attached before the stack (generic), which gains nothing over TC", generic)
	case forwards(name):
		about("it forwards: a program comes into its driver when tandem starts and goes when it ends, which resets many cards for about a second; " +
			"and where a driver gives up offloads for it, forwarding slows down: measure, or write advert = \"auto\"")
	}
}

func forwards(name string) bool {
	for _, family := range []string{"ipv4", "ipv6"} {
		if n, err := readNumber("/proc/sys/net/" + family + "/conf/" + name + "/forwarding"); err == nil && n != 0 {
			return true
		}
	}
	return false
}
