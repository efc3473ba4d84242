package render

import (
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// NotDriven returns why the orchestrator drives no saga and what to do, or "" if it does.
func (v *View) NotDriven(why *treatyv1.NotDriven) string { return v.render(v.notDriven(why)) }

func (v *View) notDriven(why *treatyv1.NotDriven) []line {
	if why == nil {
		return nil
	}
	return []line{text(redBold, "Not driven: %s", why.GetMessage()), text(plain, "  %s", why.GetAdvice())}
}

// notDrivenName returns the name of the reason why the orchestrator drives no saga, or "" if it does.
func notDrivenName(why *treatyv1.NotDriven) string {
	if why == nil {
		return ""
	}
	return wire.Reason(why.GetReason())
}
