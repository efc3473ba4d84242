// Package conformance reads the file of treaty conform, checks a running participant with it, and reports what holds.
package conformance
