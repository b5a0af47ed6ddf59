// SPDX-License-Identifier: Apache-2.0

//go:build mutant

package mutant

import (
	"os"
	"time"
)

var name = os.Getenv("TANDEM_MUTANT")

// The rules that can be broken, by what is done instead.
var (
	NoFence       = name == "no-fence"       // packets of unknown flows are answered while the commit runs
	AnnounceFirst = name == "announce-first" // addresses first, then fence and commit, as a notify script does it
	NoRefresh     = name == "no-refresh"     // an entry that the Backup's kernel ages while its flow lives is not put back
	UpdateOnly    = name == "update-only"    // an entry with stale windows is updated, not deleted and created
)

// NotifyTime is what a notify script needs before it does anything.
var NotifyTime = map[bool]time.Duration{true: 20 * time.Millisecond}[AnnounceFirst]
