package cluster

import "time"

// jumpTolerance is how much faster than this instance's clock the database's may run between two looks at it.
const jumpTolerance = 250 * time.Millisecond

// failureDetector finds the members whose lease has ended. It isn't safe for concurrent use.
//
// A lease ends on the database's clock. A clock that is set forward, or that of another server after a failover, would
// end the leases of all members that are well. So after a jump, that clock isn't believed for the length of a lease, in
// which those members renew theirs. The first look counts as a jump, and so does one after a long time without any,
// since they can't tell whether there was one. A clock that is set back would prolong the leases of the dead. So a
// member is suspected too if its renewals, by this instance's own clock, haven't changed for longer than its lease.
type failureDetector struct {
	gap time.Duration // the longest time between two looks that tell whether there was a jump

	looked   bool
	database time.Time     // its time in the last view
	asked    time.Duration // when that view was asked for
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
func (s *failureDetector) look(view *View, asked, answered time.Duration) []Suspect {
	passed := answered - s.asked
	if !s.looked || passed > s.gap || view.Time.Sub(s.database) > passed+jumpTolerance {
		s.jumped = answered
	}
	s.looked, s.database, s.asked = true, view.Time, asked

	seen := make(map[string]sighting, len(view.Members))
	var suspects []Suspect
	for _, member := range view.Members {
		sight, known := s.seen[member.ID]
		if !known || sight.renewals != member.Renewals {
			sight = sighting{renewals: member.Renewals, since: answered}
		}
		seen[member.ID] = sight

		silent := asked-sight.since > member.Lease
		if silent || member.Expired && asked-s.jumped > member.Lease {
			suspects = append(suspects, Suspect{Member: member.ID, Renewals: member.Renewals, Silent: silent})
		}
	}
	s.seen = seen
	return suspects
}
