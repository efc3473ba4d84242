// Command buf-plugin-treaty is a check plugin of buf. With it, "buf lint" checks the contract rules, and "buf breaking"
// finds the changes of contracts that break open sagas.
//
// The rules and their messages are those of protoc-gen-go-treaty and of the orchestrator, and
// docs/contract-reference.md explains each. The plugin only hands them to buf.
//
// # Use
//
// Install the plugin, and name it in buf.yaml:
//
//	version: v2
//	lint:
//	  use: [STANDARD, TREATY]
//	breaking:
//	  use: [FILE, TREATY]
//	plugins:
//	  - plugin: buf-plugin-treaty
package main

import "buf.build/go/bufplugin/check"

func main() {
	check.Main(spec)
}
