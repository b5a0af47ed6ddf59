// SPDX-License-Identifier: Apache-2.0

package adverts

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain makes the test binary serve as the child too, and as a small
// daemon that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "adverts":
			if err := Main(context.Background(), 3); err != nil {
				fmt.Fprintln(os.Stderr, "adverts:", err)
				os.Exit(1)
			}
			os.Exit(0)
		case "daemon":
			daemon(os.Args[2])
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}

// daemon is a daemon that says yes to everything, until it is killed.
func daemon(config string) {
	var cfg Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		panic(err)
	}
	cfg.Log = slog.Default()
	p, err := Start(context.Background(), cfg)
	if err != nil {
		panic(err)
	}
	fmt.Println(p.PID())
	for e := range p.Events() {
		switch e := e.(type) {
		case Promoting:
			p.Fenced(e.Set, e.Term)
		case Demoting:
			p.Released(e.Set, e.Term)
		}
	}
}
