// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/tandem-ha/tandem/internal/config"
	"github.com/tandem-ha/tandem/internal/control"
	"github.com/tandem-ha/tandem/internal/event"
)

// hooksProcess keeps tandem hooks running while there is something for it to
// do. Its death is no outage.
type hooksProcess struct {
	config *tracking     // says whether it is needed
	again  chan struct{} // the configuration was read again
	stream *event.Stream
	log    *slog.Logger
}

const (
	hooksPause = time.Second // from its end to the next start
	// hooksFarewell is how long it has for the scripts of a stop, at most: the
	// service manager waits for us.
	hooksFarewell = 10 * time.Second
)

func (h *hooksProcess) String() string { return "hooks process" }

// Run starts it again and again until ctx ends: then it has seen the end of the
// stream, runs the scripts for that, and ends by itself.
func (h *hooksProcess) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if cfg := h.config.config(); cfg.Runs() && !cfg.Hooks.Unit {
			h.once(ctx, cfg)
			continue
		}
		select {
		case <-ctx.Done():
		case <-h.again:
		}
	}
	return nil
}

// once starts it and waits for its end. It ends by itself when it hears that the
// configuration was read again; anything else is worth a word.
func (h *hooksProcess) once(ctx context.Context, cfg *config.Config) {
	cmd := exec.Command("/proc/self/exe", "hooks", "--child", "--config", cfg.Path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	ended := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		ended <- err
	} else {
		go func() { ended <- cmd.Wait() }()
	}
	select {
	case err := <-ended:
		if err == nil && h.config.config() != cfg {
			return
		}
		h.log.Warn("tandem hooks ended, and is started again", "error", err)
		h.stream.Publish(event.Event{Kind: event.Daemon, Subject: "tandem hooks", Text: "ended, and is started again"})
	case <-ctx.Done():
		h.farewell(cmd, cfg.Hooks.Timeout, ended)
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(hooksPause):
	}
}

func (h *hooksProcess) farewell(cmd *exec.Cmd, limit time.Duration, ended <-chan error) {
	select {
	case <-ended:
	case <-time.After(min(limit+time.Second, hooksFarewell)):
		h.log.Warn("tandem hooks does not end, killing it", "pid", cmd.Process.Pid)
		_ = cmd.Process.Kill()
		<-ended
	}
}

// Hooks is control.Changes: the word of tandem hooks.
func (b *backend) Hooks(_ context.Context, w control.HooksWord) (control.HooksAnswer, error) {
	return b.d.tracking.hooks(w), nil
}
