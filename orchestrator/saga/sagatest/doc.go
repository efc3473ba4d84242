// Package sagatest runs saga code in tests, without starting anything: the orchestrator's own engine runs in the test's
// process, on a store in memory, with participants that answer as the test says. Time is virtual, so a sleep of a year
// takes no time.
//
//	sagatest.Run(t, register, func(w *sagatest.World) {
//		w.Script(cardv1.CardService_ChangePostalAddress_FullMethodName,
//			sagatest.Reject(&cardv1.AddressNotServed{}))
//		s := w.Start(customerv1.CustomerSagas_ChangeAddress_FullMethodName, request)
//		s.Wait()
//		s.WantRejection(&cardv1.AddressNotServed{})
//		s.WantCommands("action ChangeAddress", "action ChangePostalAddress", "compensation RestoreAddress")
//	})
//
// # Failures
//
// [Explore] runs a saga through all of its failures. With the option [Golden], it also keeps the saga's failure matrix
// in a file: what is undone when each command fails, in which order, and how the saga ends.
//
// # Participants
//
// Every command of the linked contracts has a participant. It executes each command once, whatever the orchestrator
// repeats, and refuses an action that comes after its compensation, as one with the inbox of package inbox does. What
// it answers is a plausible reply, unless the test says otherwise: [Stub] gives a method a function, [World.Script] a
// list of answers, and [World.Serve] takes an implementation of the generated server interface. A participant may
// accept a command ([Accept]) and complete it when the test says so ([World.Complete]).
//
// # Time
//
// While a test waits ([Saga.Wait], [World.Advance]), time moves on to the next moment at which something happens. It
// stands still otherwise. Functions of package time, called by the test or its participants, see the same time.
package sagatest
