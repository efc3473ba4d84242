// Package admission decides when a command may be sent to its participant, so that a participant receives no more
// commands than it can answer in time.
//
// A [Controller] holds the commands of one participant. A command needs a [Slot] for each attempt. While there is none,
// it waits in a queue, where it costs some memory and neither a goroutine nor an attempt.
//
// # How many commands are in flight
//
// The limit adapts itself to the participant. Its measure is the pressure: how long calls take, as a share of how long
// they should take at most, which is a quarter of the timeout of the method. If calls of a method take longer even
// while the participant has little to do, it is twice as long as those take.
//
// While the pressure is below 1 and the limit is used, the limit grows: by one with every call at first, and slower
// once it was cut. Before it grows, it is predicted how long calls would take with the larger limit. When the pressure
// is above 1, the limit is cut by a tenth, and by half if calls reached their timeouts. Calls that began before a cut
// don't cause another one.
//
// There is one such limit for the participant and one for each method. So a method that hangs takes no slots from the
// others. Methods whose calls are held on purpose have no limit but the ceiling.
//
// Limits that grow by additive increase and shrink by multiplicative decrease go back to Chiu and Jain, "Analysis of
// the Increase and Decrease Algorithms for Congestion Avoidance in Computer Networks", 1989.
//
// # Which command is next
//
// Compensations come first, then commands of sagas that have a result already, then the first commands of new sagas.
// Within each of these classes, definitions take turns, and within a definition, the saga that started first is next.
package admission
