// Getpostgres finds the programs of the major versions of PostgreSQL that are given, or gets them, and prints where
// they are. "make test" runs it first, so that no test waits for a download.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/treatyhq/treaty/internal/postgres"
)

func main() {
	for _, argument := range os.Args[1:] {
		major, err := strconv.Atoi(argument)
		if err != nil {
			fmt.Fprintf(os.Stderr, "%q isn't a major version: give numbers, such as 15 18\n", argument)
			os.Exit(2)
		}
		found, err := postgres.Find(context.Background(), major)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_, _ = fmt.Fprintf(os.Stdout, "PostgreSQL %d is in %s\n", found.Major, found.Dir)
	}
}
