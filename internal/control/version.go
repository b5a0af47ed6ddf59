// SPDX-License-Identifier: Apache-2.0

package control

import (
	"runtime/debug"
	"sync"
)

// Version is this binary's version as the Go toolchain stamped it: a tag, or a
// pseudo-version that ends in the commit. "devel" when built outside of the
// repository.
var Version = sync.OnceValue(func() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "devel"
	}
	return info.Main.Version
})
