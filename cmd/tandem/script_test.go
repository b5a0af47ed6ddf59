// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/vip"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	// The daemon starts its children as /proc/self/exe, which here is the test.
	if len(os.Args) >= 2 && os.Args[0] == "/proc/self/exe" && (os.Args[1] == "adverts" || os.Args[1] == "hooks") {
		os.Exit(mainCode())
	}
	testscript.Main(m, map[string]func(){
		"tandem": main,
		"within": within,
	})
}

// TestScript runs testdata/script. Scripts need root: they make namespaces of
// their own.
func TestScript(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("these scripts need root: they make namespaces of their own")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			// Others than root must be able to read the script's files.
			env.Setenv("TZ", "UTC")
			return os.Chmod(env.WorkDir, 0o755)
		},
	})
}

// within runs a command on a machine that it makes by its flags: a network and
// mount namespace that vanish with the command.
//
//	within [-link NAME[=ADDRESS/BITS]]... [-left NAME=ADDRESS/BITS] [-hide PATH] [-says PATH=TEXT]... [-uid N] [-udp PORT] [-tcp ADDR] [-nobpf] COMMAND...
func within() {
	runtime.LockOSThread() // execve keeps this thread's namespaces and user
	var links, left, hide, says, udp, tcp list
	fs := flag.NewFlagSet("within", flag.ExitOnError)
	fs.Var(&links, "link", "an interface, up, with an address")
	fs.Var(&left, "left", "a virtual address that a killed tandem left on an interface")
	fs.Var(&hide, "hide", "a directory that is empty")
	fs.Var(&says, "says", "a file of the kernel that reads as the text")
	fs.Var(&udp, "udp", "a UDP port that is taken")
	fs.Var(&tcp, "tcp", "a TCP address that is taken")
	uid := fs.Int("uid", 0, "run as")
	nobpf := fs.Bool("nobpf", false, "a kernel without bpf(2)")
	_ = fs.Parse(os.Args[1:])

	must(unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS))
	must(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	// /proc/sys/net is that of the reading thread's namespace.
	must(os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	for _, l := range append(list{"lo"}, links...) {
		makeLink(l)
	}
	for _, l := range left {
		name, addr, _ := strings.Cut(l, "=")
		addAddress(name, addr, vip.Proto)
	}
	for _, path := range hide {
		must(unix.Mount("none", path, "tmpfs", 0, ""))
	}
	for _, f := range says {
		path, text, _ := strings.Cut(f, "=")
		putOver(path, text)
	}
	for _, port := range udp {
		_, err := net.ListenPacket("udp", ":"+port)
		must(err)
	}
	for _, addr := range tcp {
		_, err := net.Listen("tcp", addr)
		must(err)
	}
	if *nobpf {
		forbidBPF()
	}
	path, err := exec.LookPath(fs.Arg(0))
	must(err)
	if *uid != 0 {
		// Others may not search the directory of the test's binaries.
		fd, err := unix.Open(path, unix.O_PATH, 0)
		must(err)
		path = fmt.Sprintf("/proc/self/fd/%d", fd)
		must(unix.Setgroups(nil))
		must(unix.Setresgid(*uid, *uid, *uid))
		must(unix.Setresuid(*uid, *uid, *uid))
	}
	keepSockets()
	must(unix.Exec(path, fs.Args(), os.Environ()))
}

// putOver has a path read as the text. The file goes with the mount.
func putOver(path, text string) {
	f, err := os.CreateTemp("", "within")
	must(err)
	defer func() { must(os.Remove(f.Name())) }()
	_, err = f.WriteString(text)
	must(err)
	must(unix.Mount(f.Name(), path, "", unix.MS_BIND, ""))
}

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "within:", err)
		os.Exit(125)
	}
}

func makeLink(spec string) {
	name, addr, _ := strings.Cut(spec, "=")
	if name != "lo" {
		must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}))
	}
	l, err := netlink.LinkByName(name)
	must(err)
	must(netlink.LinkSetUp(l))
	if addr != "" {
		addAddress(name, addr, 0)
	}
}

func addAddress(name, addr string, protocol int) {
	l, err := netlink.LinkByName(name)
	must(err)
	a, err := netlink.ParseAddr(addr)
	must(err)
	a.Protocol = protocol
	must(netlink.AddrAdd(l, a))
}

// keepSockets lets execve keep what holds the ports.
func keepSockets() {
	for fd := 3; fd < 64; fd++ {
		if t, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err == nil && t != unix.AF_NETLINK {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
}

// forbidBPF answers bpf(2) as a kernel that was built without it.
func forbidBPF() {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	must(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	must(unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0))
}
