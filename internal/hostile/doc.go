// Package hostile is a hostile middle between a gRPC client and a gRPC server, for tests and the proof.
//
// A [Middle] listens on loopback in front of one upstream server and speaks plaintext HTTP/2 with both. It is no
// interceptor: it works on frames, so it can do everything that a proxy, a load balancer or a broken network can do. It
// swallows, delays and repeats requests; it answers in the server's name with gRPC statuses or HTML pages; it drops
// metadata, trailers and messages; it resets streams, sends GOAWAY, closes connections, and lets them hang.
//
// A [Program] decides this call by call. It returns a [Plan], which says how often and when the request goes up, what
// the client gets instead of the upstream's answer, and at which place. What no plan changes passes unharmed: metadata,
// messages of any size, streams, resets, pings, GOAWAY, and broken connections.
//
// Clients check a server's health whenever they like, so a program isn't asked about the calls of
// grpc.health.v1.Health, and no record counts them. They pass, and share what happens to their connection.
//
// What a plan does to the client never reaches the upstream: a request that went up completely is carried out, even if
// the client was told that it wasn't. The middle buffers without limit, so it hides the flow control of both ends.
//
//	middle, err := hostile.Listen(address, hostile.Options{})
//	...
//	defer middle.Close()
//	middle.Program(func(call *hostile.Call) hostile.Plan {
//		if call.PerMethod > 1 {
//			return hostile.Pass()
//		}
//		return hostile.Give(hostile.Reset(http2.ErrCodeRefusedStream), hostile.AfterAnswer)
//	})
//
// [Random] is a program that does all this by chance, for tests that run for minutes.
//
// The middle records every call. Tests wait for a record with [Middle.Await] or [Middle.Finished] instead of sleeping.
package hostile
