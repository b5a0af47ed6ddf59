// SPDX-License-Identifier: Apache-2.0

// Package metrics serves what the daemon shows (control.Status) to Prometheus.
// It counts nothing itself, and is the only room that knows Prometheus.
package metrics
