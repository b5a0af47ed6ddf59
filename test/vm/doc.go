// SPDX-License-Identifier: Apache-2.0

// Package vm runs a static test binary under the kernel of Debian 12 (Linux
// 6.1), the oldest that tandem promises to work on, whatever kernel the machine
// under test has. QEMU emulates the processor (TCG), so nothing but QEMU is
// needed; a boot takes a few seconds.
//
//	go test ./test/vm                            QEMU, 2 CPUs, 2 GiB
//	  |  compiles the binary and test/vm/init       ttyS0  the kernel's console  -> a file, shown on failure
//	  |  packs both and the modules (cpio)          ttyS1  the binary's output   -> the test
//	  `- boots ---------------------------------->  /init: mounts, loads modules, runs the binary,
//	                                                       reports its exit code, powers off
//
// It never touches the machine's own modules, network or BPF objects.
package vm
