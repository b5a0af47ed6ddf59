// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/tandem-ha/tandem/internal/event"
)

// Server is a Task: it owns the socket while Run runs.
type Server struct {
	path    string
	backend Backend
	log     *slog.Logger
	ready   chan struct{}
}

// NewServer makes a server for the socket at path; Run opens it.
func NewServer(path string, b Backend, log *slog.Logger) *Server {
	return &Server{path: path, backend: b, log: log, ready: make(chan struct{})}
}

// String names the task.
func (s *Server) String() string { return "control socket " + s.path }

// Ready is closed once the socket answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// stopGrace is how long answers under way may take when the daemon stops.
const stopGrace = 500 * time.Millisecond

// Run serves until ctx ends, which is not an error, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	l, undo, err := listen(s.path)
	if err != nil {
		return err
	}
	defer undo()
	srv := &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends the streams
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if srv.Shutdown(grace) != nil {
			_ = srv.Close()
		}
	})
	close(s.ready)
	err = srv.Serve(l)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	_ = srv.Close()
	return fmt.Errorf("serve control socket %q: %w", s.path, err)
}

type connKey struct{}

// Paths of version 1.
const (
	pathStatus = "/v1/status"
	pathVRRP   = "/v1/vrrp"
	pathSync   = "/v1/sync"
	pathFlows  = "/v1/flows"
	pathCount  = "/v1/flows/count"
	pathEvents = "/v1/events"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, _ *http.Request) { s.reply(w, s.backend.Status()) })
	mux.HandleFunc("GET "+pathVRRP, func(w http.ResponseWriter, _ *http.Request) { s.reply(w, s.backend.VRRP()) })
	mux.HandleFunc("GET "+pathSync, func(w http.ResponseWriter, _ *http.Request) { s.reply(w, s.backend.Sync()) })
	mux.HandleFunc("GET "+pathFlows, s.flows)
	mux.HandleFunc("GET "+pathCount, s.count)
	mux.HandleFunc("GET "+pathEvents, s.events)
	s.changing(mux)
	s.repairs(mux)
	s.history(mux)
	return onlyRootChanges(mux)
}

// onlyRootChanges stands before every handler: the mode of the socket keeps
// others out, this does when somebody widened the mode.
func onlyRootChanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			c, _ := r.Context().Value(connKey{}).(net.Conn)
			if uid, err := peerUID(c); err != nil || uid != 0 {
				fail(w, http.StatusForbidden, errors.New("changing something needs uid 0: run it as root"))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// failure is the body of an answer that is none, and the last line of a stream
// that broke off.
type failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(failure{err.Error()})
}

func (s *Server) reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer on control socket", "err", err)
	}
}

func (s *Server) count(w http.ResponseWriter, _ *http.Request) {
	n, err := s.backend.FlowCount()
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	s.reply(w, n)
}

// flows streams one flow per line.
func (s *Server) flows(w http.ResponseWriter, r *http.Request) {
	var q FlowQuery
	err := json.Unmarshal([]byte(r.URL.Query().Get("q")), &q)
	if err == nil {
		_, err = NewFilter(q, nil)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	buf := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(buf)
	n := 0
	err = s.backend.Flows(q, func(f *Flow) bool {
		n++
		return enc.Encode(f) == nil && r.Context().Err() == nil && (q.Limit == 0 || n < q.Limit)
	})
	if err != nil {
		_ = enc.Encode(failure{err.Error()})
	}
	_ = buf.Flush()
}

// events streams one event per line: with "after" what came after that number,
// else a snapshot, and then, with "follow", what is to come.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	stream, query := s.backend.Events(), r.URL.Query()
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	after, err := strconv.ParseUint(query.Get("after"), 10, 64)
	if query.Has("after") && err != nil {
		fail(w, http.StatusBadRequest, fmt.Errorf("after %q: must be the number of an event", query.Get("after")))
		return
	}
	if !query.Has("follow") {
		for _, e := range stream.History(after) {
			_ = enc.Encode(e)
		}
		return
	}
	sub := stream.Subscribe()
	if query.Has("after") {
		sub = stream.SubscribeAfter(after)
	}
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	for {
		e, lost, err := sub.Next(r.Context())
		if err != nil {
			return
		}
		if lost > 0 {
			gap := event.Event{At: e.At, Kind: event.Daemon, Text: fmt.Sprintf("%d events are missing here: this reader was too slow", lost)}
			_ = enc.Encode(gap)
		}
		if enc.Encode(e) != nil || flush.Flush() != nil {
			return
		}
	}
}
