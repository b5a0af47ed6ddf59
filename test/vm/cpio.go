// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"fmt"
	"path"
	"strings"
)

// archive writes a cpio archive in the "newc" format, the one that the kernel
// unpacks into its root (Documentation/driver-api/early-userspace/buffer-format.rst).
// All of it belongs to root.
type archive struct {
	buf   bytes.Buffer
	inode int
	dirs  map[string]bool
}

const (
	modeDir  = 0o040755
	modeFile = 0o100755
)

// file adds a regular executable file and the directories above it. name is
// relative to the root.
func (a *archive) file(name string, content []byte) {
	a.dir(path.Dir(name))
	a.entry(name, modeFile, content)
}

// dir adds a directory and those above it, each once.
func (a *archive) dir(name string) {
	if name == "." || a.dirs[name] {
		return
	}
	a.dir(path.Dir(name))
	if a.dirs == nil {
		a.dirs = make(map[string]bool)
	}
	a.dirs[name] = true
	a.entry(name, modeDir, nil)
}

// bytes ends the archive and returns it.
func (a *archive) bytes() []byte {
	a.entry("TRAILER!!!", 0, nil)
	return a.buf.Bytes()
}

// entry writes magic, 13 fields of 8 hexadecimal digits, the name and the
// content, both padded to 4 bytes.
func (a *archive) entry(name string, mode int, content []byte) {
	a.inode++
	a.buf.WriteString("070701")
	for _, field := range []int{
		a.inode, mode, 0, 0, // inode, mode, uid, gid
		1, 0, len(content), // links, mtime, size
		0, 0, 0, 0, // device and special device, major and minor
		len(name) + 1, 0, // name with its NUL, checksum (none in newc)
	} {
		fmt.Fprintf(&a.buf, "%08X", field)
	}
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(content)
	a.pad()
}

func (a *archive) pad() {
	if n := a.buf.Len() % 4; n != 0 {
		a.buf.WriteString(strings.Repeat("\x00", 4-n))
	}
}
