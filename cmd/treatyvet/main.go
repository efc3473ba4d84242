// Command treatyvet finds mistakes in saga code before it runs. Package sagavet lists what it finds. The go command
// runs it like vet's own checks, and reads each package once:
//
//	go build -o bin/treatyvet github.com/treatyhq/treaty/cmd/treatyvet
//	go vet -vettool=bin/treatyvet ./...
//
// It can also be run by itself, with patterns of packages as its arguments:
//
//	treatyvet ./...
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"

	"github.com/treatyhq/treaty/orchestrator/saga/sagavet"
)

func main() { multichecker.Main(sagavet.Analyzer) }
