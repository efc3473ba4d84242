package render

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Participants returns a table of participants, with what is wrong with each and what to do.
func (v *View) Participants(participants []*treatyv1.Participant) string {
	if len(participants) == 0 {
		return v.nothing("The orchestrator has no participants. Configure them with its flag --participant.")
	}
	t := newTable("PARTICIPANT", "TARGET", "REACHED", "CONTRACTS")
	for _, p := range participants {
		reached := span{"yes", green}
		if !p.GetReachable() {
			reached = span{"no", redBold}
		}
		t.add(row{
			cells: []span{{p.GetName(), bold}, {p.GetTarget(), plain}, reached, contractsState(p.GetContracts())},
			notes: participantNotes(p),
		})
	}
	return v.render(t.lines())
}

func contractsState(state treatyv1.ContractsState) span {
	name := strings.ToLower(strings.TrimPrefix(state.String(), "CONTRACTS_STATE_"))
	switch state {
	case treatyv1.ContractsState_CONTRACTS_STATE_VERIFIED:
		return span{name, green}
	case treatyv1.ContractsState_CONTRACTS_STATE_DRIFTED:
		return span{name, redBold}
	case treatyv1.ContractsState_CONTRACTS_STATE_UNVERIFIED:
		return span{name, yellow}
	default:
		return span{name, dim}
	}
}

// participantNotes returns what is wrong with a participant, and what to do.
func participantNotes(p *treatyv1.Participant) []line {
	var notes []line
	problem := p.GetProblem()
	if !p.GetReachable() && problem == "" {
		problem = "there is no connection"
	}
	if problem != "" {
		notes = append(notes, text(redBold, "no command is sent: %s", problem))
	}
	if p.GetContractsProblem() != "" {
		notes = append(notes,
			text(yellow, "its contracts can't be compared: %s", p.GetContractsProblem()),
			text(plain, "Serve server reflection there, or start the orchestrator with --contracts %s=unchecked.",
				p.GetName()))
	}
	breaks := false
	for _, d := range p.GetDifferences() {
		what, style := "breaks", redBold
		if !d.GetBreaking() {
			what, style = "harmless", dim
		}
		breaks = breaks || d.GetBreaking()
		notes = append(notes, line{
			{what + "  ", style}, {differing(d), plain}, {" (" + d.GetFile() + "): ", dim}, {d.GetDescription(), plain},
		})
	}
	for _, method := range p.GetParkedMethods() {
		notes = append(notes, line{
			{"parked  ", redBold}, {method.GetMethod() + ": ", plain}, {method.GetReason(), plain},
		})
	}
	switch {
	case len(p.GetParkedMethods()) > 0:
		notes = append(notes, text(plain, "Commands of parked methods wait, and go on by themselves when the "+
			"contracts agree: deploy the participant and the orchestrator with the same contracts."))
	case breaks:
		notes = append(notes, text(plain, "Some addresses of the participant have another contract, and get no "+
			"commands of these methods. Finish its deployment."))
	}
	return notes
}

// differing returns what differs: a field, a message or methods.
func differing(d *treatyv1.ContractDifference) string {
	switch {
	case d.GetField() != "":
		return d.GetMessage() + "." + d.GetField()
	case d.GetMessage() != "":
		return d.GetMessage()
	default:
		return strings.Join(d.GetMethods(), ", ")
	}
}
