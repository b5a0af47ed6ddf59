// SPDX-License-Identifier: Apache-2.0

package syncproto

import (
	switches "flag"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

var (
	modelSteps = switches.Int("model.steps", 100000, "steps of the model's long walk")
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

// TestLongWalk is the same without shrinking: walks of 500 steps, each from a
// seed of its own. Nothing else is left to chance, so a seed that failed fails
// again, step by step:
//
//	go test ./syncproto -run TestLongWalk -model.seed=N -model.steps=500
//
// and another 100,000 steps begin at a seed that none of these had:
//
//	go test ./syncproto -run TestLongWalk -model.seed=1000000
func TestLongWalk(t *testing.T) {
	steps := *modelSteps
	if testing.Short() { // under the race detector; the machine has one goroutine
		steps = min(steps, 10_000)
	}
	each := min(500, steps)
	done := tally{}
	for seed := *modelSeed; seed < *modelSeed+uint64(max(1, steps/each)); seed++ {
		w := newWorld(seed, 0)
		if err := walk(w, each, w.choose); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		done.add(&w.tally)
	}
	t.Logf("%+v", done)
	if steps < 10_000 {
		return
	}
	for _, n := range done.each() {
		if *n == 0 {
			t.Errorf("the walk missed something: %+v", done)
			break
		}
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
		mutantNoDigest:         "no digests",
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
	Parted, Reordered                                               int
	Committed, Deleted, Kept, Promoted                              int
	Digests, Damaged, Flipped, Healed, Resent, Compared             int
	PathChanges                                                     int
}

func (a *tally) each() []*int {
	return []*int{&a.Steps, &a.Restarts, &a.Sent, &a.Dropped, &a.Duplicated, &a.Corrupted, &a.Replayed, &a.Parted, &a.Reordered,
		&a.Committed, &a.Deleted, &a.Kept, &a.Promoted, &a.Digests, &a.Damaged, &a.Flipped, &a.Healed, &a.Resent, &a.Compared, &a.PathChanges}
}

func (a *tally) add(b *tally) {
	from := b.each()
	for i, n := range a.each() {
		*n += *from[i]
	}
}

func (i *instance) String() string {
	return fmt.Sprintf("flow %d of %d (mark %d, owner %v, ended %v)", i.index, i.host, i.mark, i.owner, i.ended)
}
