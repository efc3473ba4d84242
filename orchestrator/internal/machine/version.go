package machine

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// chooseVersion returns the version of a change that the saga uses. It chooses the latest one when the code asks for
// the first time. It returns 0 if the code got here in a replay and the journal has no version.
func (m *Machine) chooseVersion(change string, latest int32) int32 {
	if chosen, known := m.chosenVersion(change); known {
		if chosen > latest {
			m.program.versionMismatch = &treatyv1.SagaSuspended{
				Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH,
				Message: fmt.Sprintf("the saga uses version %d of the change %q, but the code only knows up to %d; "+
					"run the code that wrote the journal, or newer code, and resume", chosen, change, latest),
				Expected: fmt.Sprintf("version %d of the change %q", chosen, change),
				Found:    fmt.Sprintf("version %d", latest),
			}
		}
		return chosen
	}
	if m.unversioned[change] {
		return 0
	}
	if m.replaying {
		if m.unversioned == nil {
			m.unversioned = make(map[string]bool)
		}
		m.unversioned[change] = true
		return 0
	}
	m.program.versions = append(m.program.versions, &treatyv1.VersionChosen{Change: change, Version: latest})
	return latest
}

// chosenVersion returns the version of a change that the saga uses, recorded or not.
func (m *Machine) chosenVersion(change string) (int32, bool) {
	for _, chosen := range m.program.versions {
		if chosen.GetChange() == change {
			return chosen.GetVersion(), true
		}
	}
	version, known := m.saga.versions[change]
	return version, known
}
