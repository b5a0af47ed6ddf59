// SPDX-License-Identifier: Apache-2.0

// Package importer turns the configuration of another router into tandem's:
// VyOS's set lines and config.boot. It owns the reading of that text, the table
// of which option has which key here, and the sentences about what has none. It
// never reads a file, asks the machine or invents a value: what tandem needs and
// the source does not say is written with a comment.
//
//	text -> parse -> tree -> translate -> tables -> print -> TOML -> settle (ask internal/config)
package importer
