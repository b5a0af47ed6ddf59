// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tandem-ha/tandem/internal/event"
)

func (f *fake) Switchover(_ context.Context, o SwitchoverOrder) (RoleChange, error) {
	return RoleChange{Active: o.To, Already: o.Force, Steps: []Step{{"committed", 1.5}}}, f.err
}

func (f *fake) Takeover(_ context.Context, o ExternalOrder) (RoleChange, error) {
	return RoleChange{Text: "takeover: " + o.Reason}, f.err
}

func (f *fake) Yield(_ context.Context, o ExternalOrder) (RoleChange, error) {
	return RoleChange{Text: "yield: " + o.Reason}, f.err
}

func (f *fake) Maintenance(_ context.Context, o MaintenanceOrder) (RoleChange, error) {
	return RoleChange{Already: o.On}, f.err
}

func (f *fake) Reload(context.Context, ReloadOrder) (Reloaded, error) {
	return Reloaded{Text: "nothing has changed"}, f.err
}

func (f *fake) Hooks(_ context.Context, w HooksWord) (HooksAnswer, error) {
	return HooksAnswer{Done: w.Done}, f.err
}

func (f *fake) Takeovers(n int) []Timeline { return make([]Timeline, n) }

func TestChanges(t *testing.T) {
	b := &fake{stream: event.New(1)}
	path, _ := serve(t, b)
	c := NewClient(path)
	for name, ask := range map[string]struct {
		do   func() (RoleChange, error)
		want RoleChange
	}{
		"switchover": {func() (RoleChange, error) { return c.Switchover(t.Context(), SwitchoverOrder{To: "r2", Force: true}) },
			RoleChange{Active: "r2", Already: true, Steps: []Step{{"committed", 1.5}}}},
		"takeover":    {func() (RoleChange, error) { return c.Takeover(t.Context(), ExternalOrder{"MASTER"}) }, RoleChange{Text: "takeover: MASTER"}},
		"maintenance": {func() (RoleChange, error) { return c.Maintenance(t.Context(), MaintenanceOrder{On: true}) }, RoleChange{Already: true}},
		"yield":       {func() (RoleChange, error) { return c.Yield(t.Context(), ExternalOrder{"BACKUP"}) }, RoleChange{Text: "yield: BACKUP"}},
	} {
		b.err = nil
		got, err := ask.do()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(ask.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		b.err = errors.New("r2 is in fault")
		if _, err := ask.do(); err == nil || err.Error() != "r2 is in fault" {
			t.Errorf("%s: a refusal came as %v", name, err)
		}
	}
}

// Only uid 0 may change something, even when the socket's mode lets others in.
func TestChangesNeedRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test needs root: it becomes somebody else")
	}
	path, _ := serve(t, &fake{stream: event.New(1)})
	for _, p := range []string{path, filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		uid          int
		method, path string
		order        string
		want         int
	}{
		{65534, http.MethodPost, pathStatus, "", http.StatusForbidden},
		{65534, http.MethodPost, pathSwitchover, "{}", http.StatusForbidden},
		{65534, http.MethodPost, pathYield, "{}", http.StatusForbidden},
		{65534, http.MethodPost, pathMaintain, "{}", http.StatusForbidden},
		{65534, http.MethodPost, pathReload, "{}", http.StatusForbidden},
		{65534, http.MethodPost, pathHooks, "{}", http.StatusForbidden},
		{65534, http.MethodGet, pathTakeovers, "", http.StatusOK},
		{65534, http.MethodPost, pathResync, `""`, http.StatusForbidden},
		{65534, http.MethodGet, pathResync, "", http.StatusMethodNotAllowed},
		{65534, http.MethodGet, pathDiff, "", http.StatusOK},
		{65534, http.MethodDelete, pathStatus, "", http.StatusForbidden},
		{65534, http.MethodGet, pathStatus, "", http.StatusOK},
		{0, http.MethodPost, pathStatus, "", http.StatusMethodNotAllowed}, // only looks
		{0, http.MethodGet, pathSwitchover, "", http.StatusMethodNotAllowed},
		{0, http.MethodPost, pathSwitchover, "no order", http.StatusBadRequest},
		{0, http.MethodPost, pathSwitchover, "{}", http.StatusOK},
		{0, http.MethodGet, pathStatus, "", http.StatusOK},
	} {
		code, err := askAs(tt.uid, path, tt.method, tt.path, tt.order)
		if err != nil || code != tt.want {
			t.Errorf("uid %d %s %s %q: got %d, %v; want %d", tt.uid, tt.method, tt.path, tt.order, code, err, tt.want)
		}
	}
}

// askAs connects from a thread of its own that is another user, and that ends
// with its goroutine because it is never unlocked.
func askAs(uid int, socket, method, path, order string) (code int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
			err = e
			return
		}
		var c net.Conn
		if c, err = net.Dial("unix", socket); err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		var req *http.Request
		if req, err = http.NewRequest(method, "http://tandem"+path, strings.NewReader(order)); err != nil {
			return
		}
		if err = req.Write(c); err != nil {
			return
		}
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(c), req); err == nil {
			code = resp.StatusCode
		}
	}()
	<-done
	return code, err
}
