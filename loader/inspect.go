// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
)

// prefix begins the name of every program and map of ours.
const prefix = "tandem_"

// Program is a loaded program of ours, whichever process loaded it.
type Program struct {
	ID         uint32        `json:"id"`
	Name       string        `json:"name"`
	Type       string        `json:"type"`
	Hook       string        `json:"hook"`      // tc-egress, tc-ingress, "xdp (native)", prerouting; "" if attached nowhere we can see
	Interface  []string      `json:"interface"` // of this network namespace
	Runs       uint64        `json:"runs"`      // 0 unless kernel.bpf_stats_enabled
	TimePerRun time.Duration `json:"time_per_run_ns"`
	Memory     uint64        `json:"memory_bytes"`
	maps       []ebpf.MapID
}

// Programs lists programs whose name begins with tandem_. It needs no daemon,
// but CAP_SYS_ADMIN.
func Programs() ([]Program, error) {
	var out []Program
	err := eachID(ebpf.ProgramGetNextID, func(id ebpf.ProgramID) error {
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			return err
		}
		defer p.Close()
		one, ours, err := describeProgram(id, p)
		if ours {
			out = append(out, one)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list programs: %w", err)
	}
	links, err := Links()
	if err != nil {
		return nil, err
	}
	for i := range out {
		for _, l := range links {
			if l.Program == out[i].ID {
				out[i].Hook = l.Hook
				if l.Interface != "" {
					out[i].Interface = append(out[i].Interface, l.Interface)
				}
			}
		}
	}
	return out, nil
}

func describeProgram(id ebpf.ProgramID, p *ebpf.Program) (one Program, ours bool, err error) {
	info, err := p.Info()
	if err != nil || !strings.HasPrefix(info.Name, prefix) {
		return one, false, err
	}
	one = Program{ID: uint32(id), Name: info.Name, Type: info.Type.String(), Interface: []string{}}
	one.Memory, _ = info.Memlock()
	one.maps, _ = info.MapIDs()
	if stats, err := p.Stats(); err == nil && stats.RunCount > 0 {
		one.Runs = stats.RunCount
		one.TimePerRun = stats.Runtime / time.Duration(stats.RunCount)
	}
	return one, true, nil
}

// eachID walks over ids; one that vanished meanwhile is passed over.
func eachID[ID ~uint32](next func(ID) (ID, error), fn func(ID) error) error {
	for id := ID(0); ; {
		var err error
		if id, err = next(id); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = fn(id)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
}

// Map is a map of ours: by its name, or a program's globals (.bss, .rodata).
type Map struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Program string `json:"program"` // that uses it
	Type    string `json:"type"`
	Entries uint32 `json:"entries"` // at most; a ring's bytes
	Memory  uint64 `json:"memory_bytes"`
}

// Maps lists the maps of our programs. It needs no daemon, but CAP_SYS_ADMIN.
func Maps() ([]Map, error) {
	programs, err := Programs()
	if err != nil {
		return nil, err
	}
	user := map[ebpf.MapID]string{}
	for _, p := range programs {
		for _, id := range p.maps {
			user[id] = p.Name
		}
	}
	var out []Map
	err = eachID(ebpf.MapGetNextID, func(id ebpf.MapID) error {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil || user[id] == "" && !strings.HasPrefix(info.Name, prefix) {
			return err
		}
		one := Map{ID: uint32(id), Name: info.Name, Program: user[id], Type: info.Type.String(), Entries: info.MaxEntries}
		one.Memory, _ = info.Memlock()
		out = append(out, one)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list maps: %w", err)
	}
	return out, nil
}

// MapEntry is one entry, its bytes in hexadecimal; per-CPU values one by one.
type MapEntry struct {
	Key   string   `json:"key"`
	Value []string `json:"value"`
}

// DumpMap gives the entries of the maps with that name that are not all zero.
func DumpMap(name string) ([]MapEntry, error) {
	all, err := Maps()
	if err != nil {
		return nil, err
	}
	out, found := []MapEntry{}, false
	for _, one := range all {
		if one.Name != name {
			continue
		}
		found = true
		if err := dumpOne(ebpf.MapID(one.ID), &out); err != nil && !errors.Is(err, os.ErrNotExist) { // gone meanwhile
			return nil, fmt.Errorf("dump map %q: %w", name, err)
		}
	}
	if !found {
		return nil, fmt.Errorf("dump map %q: no such map of tandem is loaded", name)
	}
	return out, nil
}

func dumpOne(id ebpf.MapID, out *[]MapEntry) error {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return err
	}
	defer m.Close()
	switch m.Type() {
	case ebpf.RingBuf:
		return errors.New("a ring shows its records to its reader only")
	case ebpf.PerCPUArray, ebpf.PerCPUHash:
		var key []byte
		var values [][]byte
		for it := m.Iterate(); it.Next(&key, &values); {
			*out = appendEntry(*out, key, values...)
		}
		return nil
	}
	var key, value []byte
	it := m.Iterate()
	for it.Next(&key, &value) {
		*out = appendEntry(*out, key, value)
	}
	return it.Err()
}

func appendEntry(out []MapEntry, key []byte, values ...[]byte) []MapEntry {
	e := MapEntry{Key: hex.EncodeToString(key)}
	zero := true
	for _, v := range values {
		zero = zero && len(strings.Trim(string(v), "\x00")) == 0
		e.Value = append(e.Value, hex.EncodeToString(v))
	}
	if zero {
		return out
	}
	return append(out, e)
}
