// Package scaffold writes a small, complete project: contracts, two participants, a saga with its tests, an
// orchestrator, and a Makefile that generates code, tests and runs it all with nothing but Go. The project is in the
// folder template, under the module example.com/shop. Files that Go would take for code of this module end in .tmpl
// there.
package scaffold
