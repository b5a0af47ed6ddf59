// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"

	"github.com/tandem-ha/tandem/internal/control"
)

var errNotElected = errors.New("roles are not exchanged by command in this version of tandem")

// Switchover, Takeover and Yield are control.Changes.
func (b *backend) Switchover(context.Context, control.SwitchoverOrder) (control.RoleChange, error) {
	return control.RoleChange{}, errNotElected
}

func (b *backend) Takeover(context.Context, control.ExternalOrder) (control.RoleChange, error) {
	return control.RoleChange{}, errNotElected
}

func (b *backend) Yield(context.Context, control.ExternalOrder) (control.RoleChange, error) {
	return control.RoleChange{}, errNotElected
}
