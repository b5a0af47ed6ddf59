// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/tandem-ha/tandem/internal/config"
)

// The two doors into the rooms of run time.
var (
	runNode = func(context.Context, *config.Config, *slog.Logger) error {
		return errors.New("internal/node is not there yet")
	}
)
