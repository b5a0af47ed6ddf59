// SPDX-License-Identifier: Apache-2.0

//go:build !race

// The race detector allocates on its own.

package conntrack

import (
	"slices"
	"testing"
)

// TestTableDoesNotAllocate: nothing per flow, for every call.
func TestTableDoesNotAllocate(t *testing.T) {
	newNamespace(t)
	table := openTable(t)
	ops := numbered(500)
	for i := range ops {
		ops[i].Kind = OpReplace
	}
	mustApply(t, table, ops...)
	key := ops[7].Flow.Key()
	var got Flow
	n := 0
	count := func(*Flow) error { n++; return nil }
	for name, fn := range map[string]func() error{
		"Apply":  func() error { return table.Apply(ops) },
		"Dump":   func() error { return table.Dump(count) },
		"Get":    func() error { _, err := table.Get(&key, &got); return err },
		"Delete": func() error { return table.Delete(&key) },
		"Count":  func() error { _, _, err := table.Count(); return err },
	} {
		var err error
		if a := testing.AllocsPerRun(100, func() { err = fn() }); a != 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", name, a, err)
		}
	}
	refused := slices.Clone(ops)
	for i := range refused {
		refused[i].Flow.TCP.State = 99
	}
	if a := testing.AllocsPerRun(100, func() { table.Apply(refused) }); a != 0 {
		t.Errorf("Apply, all refused: %v allocations", a)
	}
}
