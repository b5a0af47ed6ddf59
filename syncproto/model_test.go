// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	switches "flag"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

var (
	modelSteps = switches.Int("model.steps", 12000, "steps of the model's long walk (100000 in make proof)")
	modelSeed  = switches.Uint64("model.seed", 1, "first seed of the model's long walk")
)

// walk takes the world through steps that choose picks, heals it at the end
// and says what did not hold.
func walk(w *world, steps int, choose func(n int, what string) int) error {
	for range steps {
		if err := w.step(choose); err != nil {
			return err
		}
	}
	return w.heal()
}

// TestModel looks for a short walk that breaks an invariant; rapid shrinks it
// and prints how to replay it.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choose := func(n int, what string) int { return rapid.IntRange(0, n-1).Draw(t, what) }
		w := newWorld(rapid.Uint64().Draw(t, "noise"), 0)
		if err := walk(w, 60, choose); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLongWalk is the same without shrinking: walks of 500 steps, each with a
// seed that replays it (-model.seed=N -model.steps=500).
func TestLongWalk(t *testing.T) {
	each := min(500, *modelSteps)
	done := tally{}
	for seed := *modelSeed; seed < *modelSeed+uint64(max(1, *modelSteps/each)); seed++ {
		w := newWorld(seed, 0)
		if err := walk(w, each, w.choose); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		done.add(&w.tally)
	}
	t.Logf("%+v", done)
	if done.Restarts == 0 || done.Dropped == 0 || done.Replayed == 0 || done.Corrupted == 0 || done.Deleted == 0 || done.Kept == 0 {
		t.Errorf("the walk missed something: %+v", done)
	}
}

// TestMutants breaks one rule of the protocol each and expects the model to
// notice: a test that cannot fail proves nothing.
func TestMutants(t *testing.T) {
	for mut, name := range map[mutant]string{
		mutantOlderApplied:     "older applied",
		mutantForeignAck:       "acknowledgement of another session",
		mutantShortWithoutBase: "short record without base",
		mutantEarlySweep:       "sweep before complete",
		mutantForeignDelete:    "deletion by a non-owner",
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 200; seed++ {
				w := newWorld(seed, mut)
				if err := walk(w, 200, w.choose); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}

// tally counts what a walk did, to see that it did it.
type tally struct {
	Steps, Restarts, Sent, Dropped, Duplicated, Corrupted, Replayed int
	Committed, Deleted, Kept                                        int
}

func (a *tally) add(b *tally) {
	a.Steps += b.Steps
	a.Restarts += b.Restarts
	a.Sent += b.Sent
	a.Dropped += b.Dropped
	a.Duplicated += b.Duplicated
	a.Corrupted += b.Corrupted
	a.Replayed += b.Replayed
	a.Committed += b.Committed
	a.Deleted += b.Deleted
	a.Kept += b.Kept
}

func (i *instance) String() string {
	return fmt.Sprintf("flow %d of %d (mark %d, owner %v, ended %v)", i.index, i.host, i.mark, i.owner, i.ended)
}
