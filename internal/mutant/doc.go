// SPDX-License-Identifier: Apache-2.0

// Package mutant breaks tandem's rules one at a time, so that tests can show
// that they would notice. It exists in binaries that were built with the tag
// mutant only: in others each of its names is the constant false, and the
// compiler leaves nothing of what they guard.
//
// It never breaks anything by itself: TANDEM_MUTANT names the one rule.
package mutant
