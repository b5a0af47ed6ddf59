// SPDX-License-Identifier: Apache-2.0

package metrics

import "github.com/tandem-ha/tandem/internal/control"

// ofCapture reads one counter of the capture.
func ofCapture(get func(c *control.Capture) uint64) func(*control.Status, put) {
	return func(s *control.Status, put put) {
		if s.Capture != nil {
			put(float64(get(s.Capture)))
		}
	}
}

// captureMetrics are what happens on this machine: packets, kernel table,
// fence, takeover.
var captureMetrics = []metric{
	{captureTold, "Changes of flows that packets told.", "", ofCapture(func(c *control.Capture) uint64 { return c.Told })},
	{captureGone, "Flows that a packet took to TIME-WAIT or CLOSE.", "", ofCapture(func(c *control.Capture) uint64 { return c.Gone })},
	{captureDied, "Flows whose death the kernel reported.", "", ofCapture(func(c *control.Capture) uint64 { return c.Died })},
	{captureLost, "Times that deaths came faster than they were read; an audit finds what was missed.", "", ofCapture(func(c *control.Capture) uint64 { return c.DeathsLost })},
	{captureSeeded, "Flows that were read from the kernel table at the start and by audits.", "", ofCapture(func(c *control.Capture) uint64 { return c.Seeded })},
	{captureAudits, "Walks over the whole kernel table.", "", ofCapture(func(c *control.Capture) uint64 { return c.Audits })},
	{captureMissed, "Own flows that an audit found dead though nobody had reported it.", "", ofCapture(func(c *control.Capture) uint64 { return c.Missed })},
	{captureRestored, "Times that a program was attached again because somebody had removed it.", "", ofCapture(func(c *control.Capture) uint64 { return c.Restored })},
	{captureMalformed, "Records from the ring that made no sense.", "", ofCapture(func(c *control.Capture) uint64 { return c.Malformed })},
	{captureRingFull, "Changes that found no room in the ring and wait for the flow's next packet.", "", ofCapture(func(c *control.Capture) uint64 { return c.RingFull })},
	{captureIgnored, "Packets that told nothing, by reason.", "reason", func(s *control.Status, put put) {
		if s.Capture != nil {
			byReason(put, s.Capture.Ignored)
		}
	}},
	{captureLinks, "Interfaces on which flows are captured.", "", ofCapture(func(c *control.Capture) uint64 { return uint64(len(c.Interfaces)) })},

	{tableEntries, "Entries in the kernel's connection tracking table.", "", func(s *control.Status, put put) {
		if s.Table != nil {
			put(float64(s.Table.Entries))
		}
	}},
	{tableMax, "The most entries that the kernel's connection tracking table takes (nf_conntrack_max).", "", func(s *control.Status, put put) {
		if s.Table != nil {
			put(float64(s.Table.Max))
		}
	}},
	{fenceUp, "Whether the fence stands and drops what the kernel table does not know.", "", func(s *control.Status, put put) {
		if s.Fence != nil {
			put(flag(s.Fence.Up))
		}
	}},
	{fenceDropped, "Packets that the fence dropped, by reason.", "reason", func(s *control.Status, put put) {
		if s.Fence != nil {
			byReason(put, s.Fence.Dropped)
		}
	}},
	{takeoverTime, "When the last takeover began, in seconds since 1970.", "set", func(s *control.Status, put put) {
		if s.Last != nil {
			put(unix(s.Last.Start), s.Last.Set)
		}
	}},
	{takeoverStep, "How long after its beginning the last takeover reached a step.", "set step", func(s *control.Status, put put) {
		if s.Last != nil {
			for _, step := range s.Last.Steps {
				put(step.AtMS/1000, s.Last.Set, step.Name)
			}
		}
	}},
	{takeoverFlows, "Flows that the last takeover wrote into the kernel table.", "set", func(s *control.Status, put put) {
		if s.Last != nil {
			put(float64(s.Last.Committed), s.Last.Set)
		}
	}},
	{takeoverFailed, "Flows that the last takeover could not write into the kernel table.", "set", func(s *control.Status, put put) {
		if s.Last != nil {
			put(float64(s.Last.Failed), s.Last.Set)
		}
	}},
}
