// SPDX-License-Identifier: Apache-2.0

package live

import (
	"cmp"
	"errors"
	"os"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
)

// Level says how bad a Finding is.
type Level string

// Levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it would start, and somebody should look
	Fail Level = "fail" // it would not start
)

// Finding is one answer of the machine.
type Finding struct {
	Level Level  `json:"level"`
	What  string `json:"what"` // what was asked: "root", "kernel", "interfaces", "ports", "scripts", "kernel table"
	Text  string `json:"text"` // one sentence; for Warn and Fail also what to do
}

// asker collects findings.
type asker struct {
	cfg    *config.Config
	daemon *control.Status // nil: none runs
	found  []Finding
	what   string
}

// Ask asks everything. daemon is what the running daemon says of itself, nil
// when none runs: then what it would need must be free.
func Ask(cfg *config.Config, daemon *control.Status) []Finding {
	a := &asker{cfg: cfg, daemon: daemon}
	if a.ask("root", a.root); a.failed() {
		return a.found // the rest could not be asked
	}
	a.ask("kernel", a.kernel)
	a.ask("interfaces", a.interfaces)
	a.ask("ports", a.ports)
	a.ask("key file", a.keyFile)
	a.ask("scripts", a.scripts)
	a.ask("kernel table", a.table)
	return a.found
}

// Refusal joins what keeps the daemon from starting; nil when nothing does.
func Refusal(found []Finding) error {
	var errs []error
	for _, f := range found {
		if f.Level == Fail {
			errs = append(errs, errors.New(f.Text))
		}
	}
	return errors.Join(errs...)
}

// ask runs one group of questions; fine is what there is to say when no
// question of it was answered badly.
func (a *asker) ask(what string, questions func() (fine string)) {
	a.what = what
	before := len(a.found)
	if fine := questions(); len(a.found) == before {
		a.found = append(a.found, Finding{OK, what, cmp.Or(fine, "good")})
	}
}

func (a *asker) fail(text string) { a.found = append(a.found, Finding{Fail, a.what, text}) }
func (a *asker) warn(text string) { a.found = append(a.found, Finding{Warn, a.what, text}) }

func (a *asker) failed() bool {
	for _, f := range a.found {
		if f.Level == Fail {
			return true
		}
	}
	return false
}

func (a *asker) root() string {
	if os.Geteuid() != 0 {
		a.fail("this needs root (BPF programs, raw sockets, addresses, the kernel table): use sudo, or systemctl start tandem")
	}
	return "running as root"
}
