// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// ChurnConfig describes connections that are born at a steady rate, speak, live
// for a while and end, all from the LAN through SNAT. A TCP connection has its
// handshake, a request and a response per word, and a FIN of either side; a UDP
// flow has the words alone.
type ChurnConfig struct {
	UDP   bool
	Rate  int           // births per second
	Total int           // births; 0: until Stop or the context ends
	Words int           // payloads of 16 bytes each way, 0 to 60 for TCP, from 1 for UDP
	Life  time.Duration // from birth to the client's FIN at least; below 0: nobody ends it
	// Stamps keeps the time at which each flow became worth copying: TCP when the
	// server had the last word of the handshake, UDP when the client had an answer.
	Stamps bool
	Stop   <-chan struct{} // closed: no further births; those that live end as ever
}

// churnMost is how many may be alive at once: a stream has 1,024 sequence
// numbers of half the space.
const churnMost = 1 << 20

func (c *ChurnConfig) check() error {
	least := 0
	if c.UDP {
		least = 1
	}
	switch {
	case c.Rate < 1 || c.Rate > 1_000_000:
		return fmt.Errorf("make connections: %d births/s: want 1 to 1,000,000", c.Rate)
	case c.Words < least || c.Words > 60:
		return fmt.Errorf("make connections: %d words: want %d to 60", c.Words, least)
	case c.Total < 0 || c.Life < 0 && (c.Total == 0 || c.Total > churnMost):
		return fmt.Errorf("make connections: %d births, never ended: want 1 to %d", c.Total, churnMost)
	}
	return nil
}

// ChurnEnd is what one end counted. Born - Answered - ... is never assumed: each
// figure has its own packet.
type ChurnEnd struct {
	Born     int   `json:"born"`     // client: first packet sent; server: first packet heard
	Open     int   `json:"open"`     // TCP: handshake complete as this end sees it
	Answered int   `json:"answered"` // all words went both ways
	Closed   int   `json:"closed"`   // TCP: own FIN acknowledged and the other's heard
	Reset    int   `json:"reset"`    // RST heard
	Bytes    int64 `json:"bytes"`    // payload received, each byte as foretold
}

// ChurnResult is the account of a churn at both ends.
type ChurnResult struct {
	Client  ChurnEnd      `json:"client"`
	Server  ChurnEnd      `json:"server"`
	Lost    int           `json:"lost"`    // given up after 9 s of speaking again
	Resent  int           `json:"resent"`  // packets sent again
	Moved   int           `json:"moved"`   // packets from an address or port that is not the flow's
	Late    int           `json:"late"`    // packets of a flow that had ended
	Bad     int           `json:"bad"`     // packets with a wrong checksum, payload or number
	Alive   int           `json:"alive"`   // at the end
	Most    int           `json:"most"`    // alive at once
	Packets int64         `json:"packets"` // sent by both ends
	Births  time.Duration `json:"births"`  // from the first birth to the last
	Took    time.Duration `json:"took"`
	Missing []string      `json:"missing,omitempty"` // the first few that were lost or reset
	At      []int64       `json:"-"`                 // with Stamps, CLOCK_MONOTONIC ns, ascending
}

// Whole says whether every flow that was born did all it should, at both ends.
func (r *ChurnResult) Whole(c *ChurnConfig) error {
	n, bytes := r.Client.Born, int64(r.Client.Born)*int64(c.Words)*crowdPayload
	want := ChurnEnd{Born: n, Answered: n, Bytes: bytes}
	if !c.UDP {
		want.Open = n
		if c.Life >= 0 {
			want.Closed = n
		}
	}
	if r.Client != want || r.Server != want || r.Lost+r.Moved+r.Bad != 0 {
		return fmt.Errorf("of %d flows not all are whole: client %+v, server %+v, lost %d, moved %d, bad %d: %v",
			n, r.Client, r.Server, r.Lost, r.Moved, r.Bad, r.Missing)
	}
	return nil
}

func (r ChurnResult) String() string {
	return fmt.Sprintf("born %d (%.0f/s), answered %d, closed %d of them; lost %d, reset %d, moved %d, bad %d, resent %d, at most %d alive",
		r.Client.Born, float64(r.Client.Born)/max(r.Births.Seconds(), 1e-9), r.Client.Answered, r.Client.Closed,
		r.Lost, r.Client.Reset+r.Server.Reset, r.Moved, r.Bad, r.Resent, r.Most)
}

// churnJob is a churn that runs.
type churnJob struct {
	cfg   ChurnConfig
	ctx   context.Context
	reply chan ChurnResult
}

// Churn makes connections as configured and returns when the last one has
// ended (with Life below 0: when the last one is complete). When the context
// ends it returns at once, with what was counted until then and the context's
// error. One runs at a time; rounds of the crowd may run beside it.
func (c *Crowd) Churn(ctx context.Context, cfg ChurnConfig) (ChurnResult, error) {
	if err := cfg.check(); err != nil {
		return ChurnResult{}, err
	}
	j := &churnJob{cfg: cfg, ctx: ctx, reply: make(chan ChurnResult, 1)}
	select {
	case c.churns <- j:
	case <-ctx.Done():
		return ChurnResult{}, ctx.Err()
	case <-c.done:
		return ChurnResult{}, errors.New("crowd is closed")
	}
	select {
	case r := <-j.reply:
		return r, ctx.Err()
	case <-c.done:
		return ChurnResult{}, errors.New("crowd was closed")
	}
}

// ChurnSoFar is what the churn that runs, or the last one, has counted; it is
// a tenth of a second old at most.
func (c *Crowd) ChurnSoFar() ChurnResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.soFar
}

// NewStations is a crowd without flows of its own, for Churn alone.
func NewStations(lan, wan Station, vip netip.Addr) *Crowd {
	return newCrowd(CrowdConfig{LAN: lan, WAN: wan, VIP: vip, Rate: defaultRate})
}
