// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"

	"github.com/tandem-ha/tandem/internal/event"
)

// Client asks a running daemon.
type Client struct {
	path string
	http http.Client
}

// NewClient asks through the socket at path. Nothing is opened before the
// first question.
func NewClient(path string) *Client {
	c := &Client{path: path}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}
	return c
}

// Status asks for the whole picture.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.get(ctx, pathStatus, nil, &s)
}

// VRRP asks for the groups.
func (c *Client) VRRP(ctx context.Context) (g []VRRPGroup, err error) {
	return g, c.get(ctx, pathVRRP, nil, &g)
}

// Sync asks for replication; nil when the daemon replicates nothing.
func (c *Client) Sync(ctx context.Context) (s *SyncStatus, err error) {
	return s, c.get(ctx, pathSync, nil, &s)
}

// FlowCount asks for numbers.
func (c *Client) FlowCount(ctx context.Context) (n FlowCount, err error) {
	return n, c.get(ctx, pathCount, nil, &n)
}

// Flows calls fn for each flow that q asks for, until fn fails. The Flow is
// reused between calls.
func (c *Client) Flows(ctx context.Context, q FlowQuery, fn func(*Flow) error) error {
	text, err := json.Marshal(q)
	if err != nil {
		return err
	}
	var line struct {
		Flow
		failure
	}
	return c.lines(ctx, pathFlows, url.Values{"q": {string(text)}}, func(d *json.Decoder) error {
		line.Flow, line.Error = Flow{}, ""
		if err := d.Decode(&line); err != nil {
			return err
		}
		if line.Error != "" {
			return errors.New(line.Error)
		}
		return fn(&line.Flow)
	})
}

// Events calls fn for each event until fn fails or, with follow, ctx ends.
// after nil: all that is remembered, or with follow a snapshot and then what
// is new.
func (c *Client) Events(ctx context.Context, after *uint64, follow bool, fn func(event.Event) error) error {
	query := url.Values{}
	if after != nil {
		query.Set("after", strconv.FormatUint(*after, 10))
	}
	if follow {
		query.Set("follow", "1")
	}
	return c.lines(ctx, pathEvents, query, func(d *json.Decoder) error {
		var e event.Event
		if err := d.Decode(&e); err != nil {
			return err
		}
		return fn(e)
	})
}

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return err
	}
	return decode(body, into)
}

func decode(body io.ReadCloser, into any) error {
	defer func() { _ = body.Close() }()
	if err := json.NewDecoder(body).Decode(into); err != nil {
		return fmt.Errorf("read the daemon's answer: %w", err)
	}
	return nil
}

// lines calls fn until the stream ends.
func (c *Client) lines(ctx context.Context, path string, query url.Values, fn func(*json.Decoder) error) error {
	body, err := c.open(ctx, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	d := json.NewDecoder(body)
	for {
		if err := fn(d); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (c *Client) open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	return c.request(ctx, http.MethodGet, url.URL{Path: path, RawQuery: query.Encode()}, nil)
}

// request gives the body of a good answer; any other is an error.
func (c *Client) request(ctx context.Context, method string, u url.URL, order io.Reader) (io.ReadCloser, error) {
	u.Scheme, u.Host = "http", "tandem"
	req, err := http.NewRequestWithContext(ctx, method, u.String(), order)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		defer func() { _ = resp.Body.Close() }()
		var f failure
		if json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&f) != nil || f.Error == "" {
			f.Error = "the daemon answered " + resp.Status + ": is it of another version?"
		}
		return nil, errors.New(f.Error)
	}
	return resp.Body, nil
}

// explain turns what a socket says into what to do.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("connect to %s: permission denied: run this as root", c.path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("connect to %s: no such socket: tandem is not running here (or has another control.socket: name it with --socket)", c.path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("connect to %s: nobody listens: tandem has ended without cleaning up, start it again", c.path)
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("ask the daemon at %s: %w", c.path, err)
}
