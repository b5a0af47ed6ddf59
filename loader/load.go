// SPDX-License-Identifier: Apache-2.0

package loader

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
)

// load loads a collection and says in a sentence what is missing if the
// kernel refuses.
func load(spec *ebpf.CollectionSpec, what string) (*ebpf.Collection, error) {
	return loadShared(spec, what, nil)
}

// loadShared is load of a collection of which some maps are those of another.
func loadShared(spec *ebpf.CollectionSpec, what string, shared map[string]*ebpf.Map) (*ebpf.Collection, error) {
	// Memory of maps counts against RLIMIT_MEMLOCK below 5.11 only.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("load %s: raise the limit of locked memory: %w", what, err)
	}
	opts := ebpf.CollectionOptions{MapReplacements: shared}
	if module, err := btf.LoadKernelModuleSpec("nf_conntrack"); err == nil {
		opts.Programs.ExtraRelocationTargets = []*btf.Spec{module}
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("load %s: read types of nf_conntrack: %w", what, err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, opts)
	switch {
	case err == nil:
		return coll, nil
	case errors.Is(err, btf.ErrNotFound), errors.Is(err, btf.ErrNoExtendedInfo):
		return nil, fmt.Errorf("load %s: the kernel's types (BTF) lack what it reads: %w", what, err)
	}
	return nil, fmt.Errorf("load %s: %w", what, err)
}
