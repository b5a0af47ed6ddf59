// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"sync"

	"github.com/tandem-ha/tandem/internal/control"
)

// reception is how adverts are received: by a BPF program on each interface,
// whose ring the adverts process reads, else by raw sockets. It is asked from
// any goroutine.
type reception struct {
	mu    sync.Mutex
	ring  advertRing // nil: there is none
	why   string     // there is none though asked for
	ready bool       // the adverts process has begun
}

// advertRing is loader.Adverts.
type advertRing interface {
	Way(iface string) (way, why string)
}

func (r *reception) by(ring advertRing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring = ring
}

func (r *reception) bySocket(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring, r.why = nil, why.Error()
}

// begun: the adverts process says whether it reads the ring.
func (r *reception) begun(reads bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ready = true
	if r.ring != nil && !reads {
		r.ring, r.why = nil, "the adverts process cannot read the ring"
	}
}

// way is loader.Adverts.Way, or "socket" for all where there is no ring; "" until
// the adverts process has begun.
func (r *reception) way(iface string) (way, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.ready:
		return "", ""
	case r.ring != nil:
		return r.ring.Way(iface)
	}
	return "socket", r.why
}

// sum is the way of all interfaces in a few words.
func (r *reception) sum(ifaces []string) string {
	on := map[string][]string{}
	var ways []string
	for _, i := range ifaces {
		way, _ := r.way(i)
		if way == "" {
			continue
		}
		if on[way] == nil {
			ways = append(ways, way)
		}
		on[way] = append(on[way], i)
	}
	switch len(ways) {
	case 0:
		return "nothing yet"
	case 1:
		return ways[0]
	}
	for i, way := range ways {
		ways[i] = fmt.Sprintf("%s on %s", way, strings.Join(on[way], ", "))
	}
	return strings.Join(ways, "; ")
}

// lower are interfaces that XDP was asked for and that have another way.
func (r *reception) lower(ifaces []string) (out []control.Alarm) {
	for _, i := range ifaces {
		if way, why := r.way(i); way != "" && !strings.HasPrefix(way, "xdp") {
			out = append(out, control.Alarm{Kind: "advert-xdp", About: i,
				Text: fmt.Sprintf("adverts are taken by %s, not by XDP as capture.advert asks for: %s", way, why)})
		}
	}
	return out
}
