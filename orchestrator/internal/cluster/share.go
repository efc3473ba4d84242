package cluster

// share returns how many shards a member should own: as many as each other one, give or take one. It depends only on
// who is a member, and not on who owns what, so that members with different views of a hand-over don't hand shards back
// and forth. Members that are leaving have no share.
func share(view *View, member string) int {
	index, members := -1, 0
	for _, m := range view.Members {
		if m.Leaving {
			continue
		}
		if m.ID == member {
			index = members
		}
		members++
	}
	if index < 0 {
		return 0
	}
	fair := len(view.Shards) / members
	if index < len(view.Shards)%members {
		fair++
	}
	return fair
}

// countFree returns how many shards have no owner that is a member.
func countFree(view *View) int {
	members := make(map[string]bool, len(view.Members))
	for _, m := range view.Members {
		members[m.ID] = true
	}
	count := 0
	for _, shard := range view.Shards {
		if !members[shard.Owner] {
			count++
		}
	}
	return count
}
