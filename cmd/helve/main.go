// Command helve is the stock binary: a node without applications of its own.
package main

import "github.com/helve-serve/helve/cli"

func main() { cli.Main() }
