// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// forRouters is what a router pair and its tests need from a kernel whose
// drivers are modules. Nothing in the guest loads a module by itself.
var forRouters = []string{
	"nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nf_defrag_ipv6",
	"nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_limit",
	"nfnetlink", "sch_ingress", "cls_bpf", "act_bpf", "sch_netem",
	"veth", "bridge", "8021q", "bonding max_bonds=0", "macvlan", "vxlan", "dummy numdummies=0", "af_packet",
}

// Each room's tests named TestVM*, built with the tag vm, must pass on 6.1.
func TestLinux61(t *testing.T) {
	for _, room := range []string{"test/vm/guest", "loader", "internal/vip"} {
		t.Run(room, func(t *testing.T) {
			binary := filepath.Join(t.TempDir(), "binary")
			compile(t, "go", "test", "-c", "-tags", "vm", "-o", binary, "github.com/tandem-ha/tandem/"+room)
			out, code := Run(t, binary, []string{"-test.v", "-test.run=^TestVM", "-test.timeout=7m"}, forRouters)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(out, "\n--- PASS: TestVM") || strings.Contains(out, "--- SKIP") {
				t.Error("no test passed, or one was skipped")
			}
			t.Logf("output of the guest:\n%s", out)
		})
	}
}

// A guest that fails must fail its test: exit codes and output come through.
func TestExitCode(t *testing.T) {
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte("package main\nimport \"os\"\nfunc main() { println(os.Args[1]); os.Exit(7) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := strings.TrimSuffix(source, ".go")
	compile(t, "go", "build", "-o", binary, source)
	out, code := Run(t, binary, []string{"spoken in the guest"}, nil)
	if code != 7 || out != "spoken in the guest\n" {
		t.Errorf("exit code %d, output %q", code, out)
	}
}

func TestResolve(t *testing.T) {
	k := &kernel{
		files: map[string]string{"nf_conntrack": "a.ko", "libcrc32c": "b.ko", "crc32c_generic": "c.ko", "bonding": "d.ko"},
		needs: map[string][]string{"nf_conntrack": {"libcrc32c"}},
		softs: map[string][]string{"libcrc32c": {"crc32c"}},
		aliases: map[string][]string{
			"crc32c": {"crc32c_generic", "crc32c_not_packed"},
		},
		builtin: map[string]bool{"tls": true},
	}
	if _, err := k.resolve([]string{"missing"}); err == nil {
		t.Error("a module that does not exist was resolved")
	}
	got, err := k.resolve([]string{"nf-conntrack", "bonding max_bonds=0", "tls", "libcrc32c"})
	if err != nil {
		t.Fatal(err)
	}
	want := []module{{Name: "crc32c_generic", Optional: true}, {Name: "libcrc32c"}, {Name: "nf_conntrack"}, {Name: "bonding", Params: "max_bonds=0"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// cpio(1) is not needed by anything else; tar of libarchive is not either. The
// kernel is the oracle: TestLinux61 boots what archive wrote. Here its shape.
func TestArchive(t *testing.T) {
	var a archive
	a.file("a/b/c", []byte("12345"))
	a.file("a/d", nil)
	raw := string(a.bytes())
	if len(raw)%4 != 0 {
		t.Errorf("length %d is not a multiple of 4", len(raw))
	}
	var names []string
	for _, name := range []string{"a", "a/b", "a/b/c", "a/d", "TRAILER!!!"} {
		if strings.Count(raw, "\x00"+name+"\x00")+strings.Count(raw, "0"+name+"\x00") == 1 {
			names = append(names, name)
		}
	}
	if len(names) != 5 || strings.Count(raw, "070701") != 5 {
		t.Errorf("entries %q in %q", names, raw)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Errorf("%v: run 'sudo make deps'", err)
	}
}
