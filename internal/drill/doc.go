// SPDX-License-Identifier: Apache-2.0

// Package drill runs what every operator of a pair should run: it builds a lab,
// starts the daemons as processes, makes connections, breaks something, and
// judges by what the endpoints counted.
package drill
