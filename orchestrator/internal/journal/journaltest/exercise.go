package journaltest

import "testing"

// Exercise runs the suite. open opens the store in a directory, and fails the test if it can't. Within one test, it is
// called again for the same directory after the store was closed.
func Exercise(t *testing.T, open func(t *testing.T, dir string) Store) {
	t.Helper()
	for _, one := range []struct {
		name string
		run  func(*fixture)
	}{
		{"append", appendAndLoad},
		{"append/refused entries", appendRefusals},
		{"append/invalid group writes nothing", appendInvalid},
		{"append/empty group", appendEmpty},
		{"append/arguments can be reused", appendKeepsNothing},
		{"append/big", appendBig},
		{"append/constant fields", appendConstants},
		{"append/long saga", appendLong},
		{"append/restarted journal", restartJournal},
		{"publish", publishAndRead},
		{"publish/again", publishAgain},
		{"publish/by others", foreignEvents},
		{"publish/refused turns", publishRefused},
		{"publish/invalid", publishInvalid},
		{"publish/in doubt", publishInDoubt},
		{"wake/by an event", wakeByEvent},
		{"wake/by an await", wakeByAwait},
		{"wake/in a group", wakeInGroup},
		{"wake/concurrent", wakeConcurrently},
		{"next event", nextEvent},
		{"consumers", consumers},
		{"purge", purge},
		{"purge/many", purgeMany},
		{"purge/remembered", purgeRemembered},
		{"purge/remembered ids", purgeRememberedIDs},
		{"purge/children", purgeChildren},
		{"purge/families", purgeFamilies},
		{"purge/one", purgeOne},
		{"purge/children of other stores", purgeCompensated},
		{"purge/events", purgeEvents},
		{"purge/ids of events", purgeEventIDs},
		{"get", get},
		{"times", times},
		{"open/states", openStates},
		{"open/pages", openPages},
		{"open/waiting", openWaiting},
		{"due", due},
		{"turns", turns},
		{"list/filters", listFilters},
		{"list/labels", listLabels},
		{"list/order and pages", listPages},
		{"list/times of turns", listTurnTimes},
		{"list/after a row that changed", listAfter},
		{"list/invalid", listInvalid},
		{"list/big filter", listBigFilter},
		{"limits", limits},
		{"reopen", reopen},
		{"identity", identity},
		{"traced", traced},
		{"participants", participants},
		{"oldest open", oldestOpen},
		{"lost sagas", lostSagas},
		{"children", children},
		{"scopes", scopes},
		{"oldest child", oldestChild},
		{"closed", closed},
		{"ended context", endedContext},
		{"concurrent", concurrent},
		{"groups are atomic", atomicGroups},
		{"model", model},
	} {
		t.Run(one.name, func(t *testing.T) {
			f := &fixture{T: t, opener: open, dir: t.TempDir()}
			f.Store = open(t, f.dir)
			t.Cleanup(func() {
				if err := f.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			one.run(f)
		})
	}
}
