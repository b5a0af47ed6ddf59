// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tandem-ha/tandem/conntrack"
	"github.com/tandem-ha/tandem/internal/drill"
	"github.com/tandem-ha/tandem/internal/load"
	"github.com/tandem-ha/tandem/internal/netlab"
)

// stand is the lab of one bench: routers, two stations, and the machine's
// limits raised for as long as it stands.
type stand struct {
	*teller
	opts    Options
	lab     *netlab.Lab
	crowd   *load.Crowd
	tables  map[*netlab.Router]*conntrack.Table
	restore func() error
	part    func(Values, time.Duration, error) // takes what a part of the run gave; the last is run's own
}

func (s *stand) open() (err error) {
	s.say("building two routers and two stations")
	if s.restore, err = raiseMax(4_000_000); err != nil {
		return err
	}
	if s.lab, err = netlab.New(netlab.Options{}); err != nil {
		return err
	}
	s.tables = map[*netlab.Router]*conntrack.Table{}
	for _, r := range s.lab.Routers() {
		if err := s.openTable(r); err != nil {
			return err
		}
	}
	s.crowd, err = drill.Stations(s.lab)
	return err
}

func (s *stand) openTable(r *netlab.Router) error {
	return r.NS.Run(func() error {
		t, err := conntrack.Open()
		if err != nil {
			return fmt.Errorf("open the kernel table of %s: %w", r.Name, err)
		}
		s.tables[r] = t
		return nil
	})
}

// close undoes everything, whatever had been made.
func (s *stand) close() (err error) {
	if s.crowd != nil {
		err = errors.Join(err, s.crowd.Close())
	}
	for _, t := range s.tables {
		err = errors.Join(err, t.Close())
	}
	if s.lab != nil {
		err = errors.Join(err, s.lab.Close())
	}
	if s.restore != nil {
		err = errors.Join(err, s.restore())
	}
	return err
}

// systems are who runs, in the order of the first round.
func (s *stand) systems(b *bench) (out []system) {
	if b.bare {
		out = append(out, &nobody{s})
	}
	out = append(out, &tandem{stand: s, edit: b.edit})
	if s.opts.Modes && b.edit == nil {
		out = append(out, &tandem{stand: s, edit: atTakeover, mode: "-takeover"})
	}
	if s.opts.Compare {
		out = append(out, &peers{stand: s}, &peers{stand: s, direct: true})
	}
	return out
}

// empty flushes both kernel tables, as `conntrack -F` does, until what was on
// its way is gone too. It walks them: the kernel's own count has entries that a
// packet in some queue still refers to.
func (s *stand) empty(ctx context.Context) error {
	for _, r := range s.lab.Routers() {
		if err := s.await(ctx, 20*time.Second, r.Name+"'s kernel table to be empty", func() (bool, error) {
			if err := s.flush(r); err != nil {
				return false, err
			}
			n := 0
			err := s.tables[r].Dump(func(*conntrack.Flow) error { n++; return nil })
			return n == 0, err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (s *stand) flush(r *netlab.Router) error {
	return r.NS.Run(func() error {
		b, err := OpenBare()
		if err != nil {
			return err
		}
		defer b.Close()
		return b.Flush()
	})
}

// entries counts a router's kernel table.
func (s *stand) entries(r *netlab.Router) (int, error) {
	text, err := r.NS.ReadSysctl("net/netfilter/nf_conntrack_count")
	if err != nil {
		return 0, fmt.Errorf("count entries of %s: %w", r.Name, err)
	}
	return strconv.Atoi(text)
}

// reap walks both kernel tables: the kernel removes what has timed out as a
// walk passes it, as it would by itself within minutes.
func (s *stand) reap() error {
	for _, r := range s.lab.Routers() {
		if err := s.tables[r].Dump(func(*conntrack.Flow) error { return nil }); err != nil {
			return fmt.Errorf("walk the kernel table of %s: %w", r.Name, err)
		}
	}
	return nil
}

// timeouts sets, on both routers, for how many seconds the kernel remembers
// what has ended: TCP in TIME_WAIT, and UDP that was answered or not.
func (s *stand) timeouts(timeWait, udp int) error {
	for _, r := range s.lab.Routers() {
		if err := r.NS.Sysctl(
			[2]string{"net/netfilter/nf_conntrack_tcp_timeout_time_wait", strconv.Itoa(timeWait)},
			[2]string{"net/netfilter/nf_conntrack_udp_timeout", strconv.Itoa(udp)},
			[2]string{"net/netfilter/nf_conntrack_udp_timeout_stream", strconv.Itoa(udp)},
		); err != nil {
			return err
		}
	}
	return nil
}

// await asks every 10 ms.
func (s *stand) await(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	for end := time.Now().Add(limit); ; {
		done, err := ok()
		switch {
		case err != nil:
			return fmt.Errorf("wait for %s: %w", what, err)
		case done:
			return nil
		case time.Now().After(end):
			return fmt.Errorf("wait for %s: not within %s", what, limit)
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
