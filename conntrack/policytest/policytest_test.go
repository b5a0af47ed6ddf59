// SPDX-License-Identifier: Apache-2.0

package policytest

import "testing"

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"replicate udp - seen 1.1.1.1:1 2.2.2.2:2 -",
		"policy protocols=nosuch",
		"policy protocols=all tcp=sometimes",
		"policy ignore=10.0.0.300/8",
		"policy colour=red",
		"policy protocols=all\nperhaps udp - seen 1.1.1.1:1 2.2.2.2:2 -",
		"policy protocols=all\nignore udp - seen 1.1.1.1:1 2.2.2.2:2",
		"policy protocols=all\nignore udp - maybe 1.1.1.1:1 2.2.2.2:2 -",
		"policy protocols=all\nignore tcp ASLEEP seen 1.1.1.1:1 2.2.2.2:2 -",
		"policy protocols=all\nignore tcp CLOSE seen 1.1.1.1 2.2.2.2:2 -",
	} {
		if _, err := parse(text); err == nil {
			t.Errorf("parse(%q) took it", text)
		}
	}
}
