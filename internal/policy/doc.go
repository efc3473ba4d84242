// Package policy reads who may do what from a file in YAML. A [Policy] is an [access.Authorizer] that allows what a
// grant of the file allows, and refuses everything else. A [File] follows the file and replaces its policy when it
// changes.
//
// docs/policy.md describes the file.
package policy
