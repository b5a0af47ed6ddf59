// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/urfave/cli/v2"

func progCommand() *cli.Command    { return &cli.Command{Name: "prog", Hidden: true} }
func mapCommand() *cli.Command     { return &cli.Command{Name: "map", Hidden: true} }
func linkCommand() *cli.Command    { return &cli.Command{Name: "link", Hidden: true} }
func featureCommand() *cli.Command { return &cli.Command{Name: "feature", Hidden: true} }
