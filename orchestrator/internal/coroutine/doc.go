// Package coroutine runs the code of sagas on coroutines that can be left behind.
//
// A [Group] has the coroutines of one saga. The goroutine that runs the saga resumes one of them at a time and waits
// until its code yields or ends, as with iter.Pull. Unlike there, somebody else can interrupt the wait when the code
// blocks: the goroutine that runs the saga continues, and the code's goroutine is left behind. It ends as soon as its
// code uses the coroutine again, or returns.
//
// The package also knows on which goroutine it is called. Code must use its coroutine on the coroutine's own goroutine;
// a use on any other one is found, and has no effect on the coroutine.
//
// The package has no clock: it doesn't know how long code has run. An [Observer] does.
package coroutine
