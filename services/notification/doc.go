// Package notification holds no Go code of the notification service, which is written in TypeScript (src), but the
// tests that it and its twin in Go (go) both pass.
package notification
