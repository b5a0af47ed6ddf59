// SPDX-License-Identifier: Apache-2.0

//go:build !mutant

package mutant

// What a build without the tag breaks: nothing. See mutant.go.
const (
	NoFence       = false
	AnnounceFirst = false
	NoRefresh     = false
	UpdateOnly    = false
	NotifyTime    = 0
)
