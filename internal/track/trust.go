// SPDX-License-Identifier: Apache-2.0

package track

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Trusted says whether a program may be run for us: it is an executable file,
// and neither it nor a directory on the way to it can be changed by others than
// root. A directory in which everybody may write but not touch another's files
// (/tmp) is none that a file of root's can be changed in.
func Trusted(program string) error {
	path, err := filepath.EvalSymlinks(program)
	if err != nil {
		return fmt.Errorf("%s: there is no such file", program)
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", program, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s: is not a file that can be executed", program)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s: is not executable: chmod +x %s", program, path)
	}
	for at := path; ; at = filepath.Dir(at) {
		if at != path {
			if info, err = os.Stat(at); err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
		}
		if err := onlyRoots(program, at, info); err != nil {
			return err
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

func onlyRoots(program, at string, info fs.FileInfo) error {
	what := "it"
	if at != program {
		what = at
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
		return fmt.Errorf("%s: %s belongs to user %d, who could change what is run: chown root %s", program, what, st.Uid, at)
	}
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if mode := info.Mode().Perm(); mode&0o022 != 0 && !sticky {
		return fmt.Errorf("%s: others than root may write to %s (mode %04o): chmod go-w %s", program, what, mode, at)
	}
	return nil
}
