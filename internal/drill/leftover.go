// SPDX-License-Identifier: Apache-2.0

package drill

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// bpfPrefix begins the name of every program and map of tandem.
const bpfPrefix = "tandem_"

// objects are BPF objects by kind ("prog_id", "map_id", "link_id", as fdinfo
// has it) and id; the value describes one.
type objects map[string]map[uint32]string

// loaded lists what tandem has in the kernel, of this lab or of anybody.
func loaded() (objects, error) {
	o := objects{"prog_id": {}, "map_id": {}, "link_id": {}}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			break // no more
		}
		id = next
		o.program(id)
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if err != nil {
			break
		}
		id = next
		o.bpfMap(id)
	}
	return o, o.links()
}

func (o objects) program(id ebpf.ProgramID) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return // gone meanwhile
	}
	defer p.Close()
	if info, err := p.Info(); err == nil && strings.HasPrefix(info.Name, bpfPrefix) {
		o["prog_id"][uint32(id)] = "program " + info.Name
	}
}

func (o objects) bpfMap(id ebpf.MapID) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return
	}
	defer m.Close()
	if info, err := m.Info(); err == nil && strings.HasPrefix(info.Name, bpfPrefix) {
		o["map_id"][uint32(id)] = "map " + info.Name
	}
}

func (o objects) links() error {
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err != nil {
			continue
		}
		if name, ours := o["prog_id"][uint32(info.Program)]; ours {
			o["link_id"][uint32(info.ID)] = fmt.Sprintf("link of %s", name)
		}
	}
	return it.Err()
}

// held lists the BPF objects that living processes hold open: those belong to
// somebody who still works, another lab's daemon for example.
func held() objects {
	o := objects{"prog_id": {}, "map_id": {}, "link_id": {}}
	files, _ := filepath.Glob("/proc/[0-9]*/fdinfo/*")
	for _, f := range files {
		target, err := os.Readlink(strings.Replace(f, "/fdinfo/", "/fd/", 1))
		if err != nil || !strings.HasPrefix(target, "anon_inode:bpf") && !strings.HasPrefix(target, "anon_inode:[bpf") {
			continue
		}
		o.fdinfo(f)
	}
	for id := range o["prog_id"] { // and what those programs use
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil {
			ids, _ := info.MapIDs()
			for _, m := range ids {
				o["map_id"][uint32(m)] = ""
			}
		}
		p.Close()
	}
	return o
}

func (o objects) fdinfo(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), ":")
		if ids, ok := o[key]; ok {
			if id, err := strconv.ParseUint(strings.TrimSpace(value), 10, 32); err == nil {
				ids[uint32(id)] = ""
			}
		}
	}
}

// leftovers lists what of tandem is in the kernel, was not there before, and
// is held by nobody who lives. The kernel frees some of it late: it waits.
func leftovers(before objects, limit time.Duration) (out []string, err error) {
	for end := time.Now().Add(limit); ; time.Sleep(50 * time.Millisecond) {
		now, err := loaded()
		if err != nil {
			return nil, fmt.Errorf("list BPF objects: %w", err)
		}
		alive := held()
		out = out[:0]
		for kind, ids := range now {
			for id, what := range ids {
				_, old := before[kind][id]
				_, inUse := alive[kind][id]
				if !old && !inUse {
					out = append(out, fmt.Sprintf("%s (id %d)", what, id))
				}
			}
		}
		slices.Sort(out)
		if len(out) == 0 || time.Now().After(end) {
			return out, nil
		}
	}
}
