// SPDX-License-Identifier: Apache-2.0

// Package config turns the configuration file into validated values. It is
// strict: an unknown key is an error, and every error names file, line, key,
// value and what is allowed. It never touches the machine; what only the
// machine can answer is checked by `tandem check --live`.
package config
