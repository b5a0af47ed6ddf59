// SPDX-License-Identifier: Apache-2.0

// Package tree tests what no room owns: that each source file names its
// licence, that documents point at files and targets which exist, and that the
// configuration in the README is one that tandem accepts.
package tree
