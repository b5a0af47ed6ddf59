// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Server is a Task: it answers GET /metrics while Run runs.
type Server struct {
	listen   []string
	registry *prometheus.Registry
	log      *slog.Logger
	ready    chan struct{}
	addrs    []net.Addr
}

// NewServer makes a server for the addresses of [metrics]; Run opens them.
func NewServer(listen []string, s Source, log *slog.Logger) *Server {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Server{listen: listen, registry: r, log: log, ready: make(chan struct{})}
}

// String names the task.
func (s *Server) String() string { return "metrics on " + strings.Join(s.listen, ", ") }

// Ready is closed once every address answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Bounds of a request: a scraper that hangs must not hold anything.
const (
	headerTimeout = 5 * time.Second
	answerTimeout = 10 * time.Second
	stopGrace     = 500 * time.Millisecond
	inFlight      = 4
)

// Run serves until ctx ends, which is not an error.
func (s *Server) Run(ctx context.Context) error {
	var listeners []net.Listener
	for _, addr := range s.listen {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			for _, l := range listeners {
				_ = l.Close()
			}
			return fmt.Errorf("serve metrics: %w", err)
		}
		listeners = append(listeners, l)
		s.addrs = append(s.addrs, l.Addr())
	}
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: headerTimeout, WriteTimeout: answerTimeout, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	g, work := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve metrics on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-work.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
		return nil
	})
	close(s.ready)
	return g.Wait()
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn), MaxRequestsInFlight: inFlight,
	}))
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "tandem: the metrics are at /metrics\n")
	})
	return mux
}
