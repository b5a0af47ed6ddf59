// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tandem-ha/tandem/internal/control"
)

// Source is the daemon. Status is asked once for each scrape, so that the
// figures of one scrape belong together.
type Source interface {
	Status() control.Status
}

// put gives one sample; labels are values in the order of the metric's names.
type put func(v float64, labels ...string)

// metric is one family: how it is called and where it stands in a Status.
type metric struct {
	name   string
	help   string
	labels string // names, separated by spaces
	read   func(s *control.Status, put put)
}

// histogram is a family that the adverts process counted in buckets.
type histogram struct {
	name string
	help string
	read func(s *control.Status) *control.Histogram
}

// collector turns a Status into samples.
type collector struct {
	source  Source
	metrics []metric
	descs   []*prometheus.Desc
	hdescs  []*prometheus.Desc
}

func newCollector(s Source) *collector {
	c := &collector{source: s}
	for _, part := range [][]metric{electionMetrics, captureMetrics, replicationMetrics} {
		c.metrics = append(c.metrics, part...)
	}
	for _, m := range c.metrics {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, strings.Fields(m.labels), nil))
	}
	for _, h := range histograms {
		c.hdescs = append(c.hdescs, prometheus.NewDesc(h.name, h.help, nil, nil))
	}
	return c
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append(c.descs, c.hdescs...) {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.source.Status()
	for i, m := range c.metrics {
		kind := prometheus.GaugeValue
		if strings.HasSuffix(m.name, "_total") {
			kind = prometheus.CounterValue
		}
		// One bad pair of names (two peers that call themselves r1) must not
		// cost the whole scrape, which Prometheus would refuse.
		seen := make(map[string]bool)
		m.read(&s, func(v float64, labels ...string) {
			if key := strings.Join(labels, "\x00"); !seen[key] {
				seen[key] = true
				ch <- prometheus.MustNewConstMetric(c.descs[i], kind, v, labels...)
			}
		})
	}
	for i, h := range histograms {
		if v := h.read(&s); v != nil {
			ch <- seconds(c.hdescs[i], v)
		}
	}
}

// seconds converts buckets of microseconds.
func seconds(d *prometheus.Desc, h *control.Histogram) prometheus.Metric {
	cumulative := make(map[float64]uint64, len(h.BoundsUS))
	var count uint64
	for i, n := range h.Buckets {
		count += n
		if i < len(h.BoundsUS) {
			cumulative[float64(h.BoundsUS[i])/1e6] = count
		}
	}
	return prometheus.MustNewConstHistogram(d, count, float64(h.SumUS)/1e6, cumulative)
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// byReason puts one sample for each reason, after the labels given.
func byReason(put put, m map[string]uint64, labels ...string) {
	for reason, n := range m {
		put(float64(n), append(labels[:len(labels):len(labels)], reason)...)
	}
}
