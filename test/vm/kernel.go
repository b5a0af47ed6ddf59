// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// kernel is a Debian kernel package as `make deps` unpacks it: vmlinuz, version
// and lib/modules/VERSION with depmod's indexes.
type kernel struct {
	Image   string // path of vmlinuz
	Release string // as uname -r
	modules string // path of lib/modules/RELEASE

	files   map[string]string   // module -> file, relative to modules
	needs   map[string][]string // module -> modules to load before it
	softs   map[string][]string // module -> modules or aliases to try before it
	aliases map[string][]string // alias -> modules
	builtin map[string]bool
}

// module is one module to load, in the order of loading.
type module struct {
	Name     string
	Params   string
	Optional bool // of a soft dependency: one that the processor does not offer may refuse
}

// findKernel opens the kernel that `make deps` put into the cache.
func findKernel() (*kernel, error) {
	dir := filepath.Join(cmp.Or(os.Getenv("TANDEM_TEST_CACHE"), "/var/cache/tandem-test"), "linux-6.1")
	release, err := os.ReadFile(filepath.Join(dir, "version"))
	if err != nil {
		return nil, fmt.Errorf("find Linux 6.1 for the VM: %w: run 'sudo make deps'", err)
	}
	k := &kernel{
		Image:   filepath.Join(dir, "vmlinuz"),
		Release: strings.TrimSpace(string(release)),
		files:   make(map[string]string),
		needs:   make(map[string][]string),
		softs:   make(map[string][]string),
		aliases: make(map[string][]string),
		builtin: make(map[string]bool),
	}
	k.modules = filepath.Join(dir, "lib/modules", k.Release)
	return k, k.readIndexes()
}

// readIndexes reads what depmod(8) wrote.
func (k *kernel) readIndexes() error {
	for name, line := range map[string]func([]string){
		// kernel/net/a.ko: kernel/net/b.ko kernel/net/c.ko
		"modules.dep": func(f []string) {
			file := strings.TrimSuffix(f[0], ":")
			k.files[moduleName(file)] = file
			for _, dep := range f[1:] {
				k.needs[moduleName(file)] = append(k.needs[moduleName(file)], moduleName(dep))
			}
		},
		// softdep libcrc32c pre: crc32c post: other
		"modules.softdep": func(f []string) {
			for _, soft := range f[2:] {
				if soft == "post:" {
					return
				}
				if soft != "pre:" {
					k.softs[moduleName(f[1])] = append(k.softs[moduleName(f[1])], moduleName(soft))
				}
			}
		},
		// alias crc32c crc32c_generic
		"modules.alias": func(f []string) {
			k.aliases[moduleName(f[1])] = append(k.aliases[moduleName(f[1])], moduleName(f[2]))
		},
		"modules.builtin": func(f []string) { k.builtin[moduleName(f[0])] = true },
	} {
		if err := eachLine(filepath.Join(k.modules, name), line); err != nil {
			return fmt.Errorf("read the module index of Linux %s: %w", k.Release, err)
		}
	}
	return nil
}

// resolve orders the wanted modules so that each stands behind what it needs. A
// wanted one is "name" or "name parameter=value ...".
func (k *kernel) resolve(wanted []string) ([]module, error) {
	var order []module
	seen := make(map[string]bool)
	params := make(map[string]string)
	var add func(name string, optional bool) error
	add = func(name string, optional bool) error {
		if seen[name] || k.builtin[name] {
			return nil
		}
		seen[name] = true
		if k.files[name] == "" {
			return fmt.Errorf("find module %q in Linux %s: neither a file nor built in", name, k.Release)
		}
		for _, soft := range k.softs[name] {
			for _, candidate := range append(slices.Clone(k.aliases[soft]), soft) {
				if k.files[candidate] == "" {
					continue
				}
				if err := add(candidate, true); err != nil {
					return err
				}
			}
		}
		for _, need := range k.needs[name] {
			if err := add(need, optional); err != nil {
				return err
			}
		}
		order = append(order, module{Name: name, Params: params[name], Optional: optional})
		return nil
	}
	for _, w := range wanted {
		name, p, _ := strings.Cut(w, " ")
		params[moduleName(name)] = p
	}
	for _, w := range wanted {
		name, _, _ := strings.Cut(w, " ")
		if err := add(moduleName(name), false); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// read returns a module's content, uncompressed: finit_module of 6.1 takes no
// other, and Debian's newer kernels ship .ko.xz.
func (k *kernel) read(name string) ([]byte, error) {
	file := filepath.Join(k.modules, k.files[name])
	if strings.HasSuffix(file, ".xz") {
		return exec.Command("xz", "-dc", file).Output()
	}
	return os.ReadFile(file)
}

// moduleName turns "kernel/net/nf-x.ko.xz" into "nf_x", as the kernel does.
func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// eachLine calls fn with the fields of each line that is not a comment.
func eachLine(file string, fn func(fields []string)) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 && fields[0] != "#" {
			fn(fields)
		}
	}
	return lines.Err()
}
