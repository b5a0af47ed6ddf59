// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// listen makes the socket, mode 0600 from its first moment, and takes a stale
// one's place. A lock beside it, which the kernel drops with the process, says
// whether a daemon lives: so a socket that kill -9 left is never mistaken for
// a living one, nor a living one for stale. undo removes the socket.
func listen(path string) (l *net.UnixListener, undo func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the control socket's directory: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, nil, fmt.Errorf("open control socket %q: something that is no socket has this name: remove it, or choose another control.socket", path)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = lock.Close()
		}
	}()
	// Bound under another name, so that nobody can connect before the mode is
	// right; chmod follows the name, umask is the whole process's.
	fresh := path + ".new"
	_ = os.Remove(fresh)
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, nil, fmt.Errorf("open control socket %q: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err = errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		_ = l.Close()
		return nil, nil, fmt.Errorf("open control socket %q: %w", path, err)
	}
	return l, func() {
		_ = os.Remove(path)
		_ = lock.Close()
	}, nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock control socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %q: another tandem is running with this control socket: stop it, or choose another control.socket", path)
		}
		return nil, fmt.Errorf("lock %q: %w", path, err)
	}
	return f, nil
}

// peerUID asks the kernel who is at the other end (SO_PEERCRED: as of its
// connect).
func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, errors.New("not a Unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return 0, cerr
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// Free says whether a daemon could serve at path: nil, or why not.
func Free(path string) error {
	if _, err := os.Stat(path + ".lock"); err != nil {
		return nil // nobody ever served there
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	return lock.Close()
}
