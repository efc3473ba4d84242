// Package notification has the tests of the notification service. Both implementations pass them: the service in
// TypeScript (src) and its twin in Go (go).
package notification
