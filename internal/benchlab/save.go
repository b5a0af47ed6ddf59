// SPDX-License-Identifier: Apache-2.0

package benchlab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Save writes the report as BENCH.json and a picture of it as BENCH.svg; fault, its
// length and interval are part of the name where they are not the default.
func (r *Report) Save(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory for the report: %w", err)
	}
	for name, content := range map[string][]byte{r.file() + ".json": append(text, '\n'), r.file() + ".svg": r.picture()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	return nil
}
