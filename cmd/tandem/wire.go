// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/tandem-ha/tandem/internal/config"
)

// runNode is the door into the rooms of run time.
var runNode = func(_ context.Context, _ *config.Config, _ string, _ *slog.Logger, _ func()) error {
	return errors.New("internal/node is not there yet")
}
