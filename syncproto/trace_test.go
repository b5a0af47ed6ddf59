package syncproto

import (
	"fmt"
	"os"
	"testing"
)

func TestTrace(t *testing.T) {
	if os.Getenv("TRACE") == "" {
		return
	}
	w := newWorld(7, 0)
	for s := 0; s < 500; s++ {
		var log []string
		err := w.step(func(n int, what string) int {
			v := w.noise.IntN(n)
			log = append(log, fmt.Sprintf("%s=%d", what, v))
			return v
		})
		fmt.Println(s, w.now-1e12, log)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.heal(); err != nil {
		t.Fatal(err)
	}
}
