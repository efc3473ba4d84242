package cluster

import "time"

// jumpTolerance is how much faster or slower than this instance's clock the database's may run between two looks at it.
const jumpTolerance = 250 * time.Millisecond

// failureDetector finds the members whose lease has ended. It isn't safe for concurrent use.
//
// A lease ends on the database's clock. A clock that is set forward, or that of another server after a failover, would
// end the leases of all members that are well. So after a jump, that clock isn't believed for the length of a lease, in
// which those members renew theirs. A jump back counts, too, since one forward may follow before the next look. So do
// the first look and one after a long time without any, which can't tell whether there was a jump. A clock that is set
// back would prolong the leases of the dead. So a member is suspected, too, if its renewals haven't changed for longer
// than its lease, by this instance's own clock.
type failureDetector struct {
	gap time.Duration // the longest time between two looks that tell whether there was a jump

	looked   bool
	database time.Time     // its time in the last view
	asked    time.Duration // when that view was asked for
	answered time.Duration // when it was answered
	jumped   time.Duration // when the database's clock has jumped last

	seen map[string]sighting
}

// sighting is what a member's renewals were, and since when.
type sighting struct {
	renewals int64
	since    time.Duration
}

// look returns the members of a view that have probably crashed. The view was asked for and answered at these times of
// this instance's own clock.
func (d *failureDetector) look(view *View, asked, answered time.Duration) []Suspect {
	if !d.looked || d.hasJumped(view.Time, asked, answered) {
		d.jumped = answered
	}
	d.looked, d.database, d.asked, d.answered = true, view.Time, asked, answered

	seen := make(map[string]sighting, len(view.Members))
	var suspects []Suspect
	for _, member := range view.Members {
		sight, known := d.seen[member.ID]
		if !known || sight.renewals != member.Renewals {
			sight = sighting{renewals: member.Renewals, since: answered}
		}
		seen[member.ID] = sight

		silent := asked-sight.since > member.Lease
		if silent || member.Expired && asked-d.jumped > member.Lease {
			suspects = append(suspects, Suspect{Member: member.ID, Renewals: member.Renewals, Silent: silent})
		}
	}
	d.seen = seen
	return suspects
}

// hasJumped returns whether the database's clock may have jumped since the last look. Between the two readings of that
// clock, at least the time from the last answer to this question has passed, and at most that from the last question to
// this answer.
func (d *failureDetector) hasJumped(database time.Time, asked, answered time.Duration) bool {
	least, most := asked-d.answered, answered-d.asked
	passed := database.Sub(d.database)
	return most > d.gap || passed < least-jumpTolerance || passed > most+jumpTolerance
}
