package company

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
)

// effects derives, from a participant's ledger, what its tables must hold. Entries are added in the order of the
// ledger.
type effects struct {
	service    string
	about      map[string][]*entry // by the customer that they are about
	applicants map[string]string   // the customer of each applicant
	posted     map[string]bool     // the known revisions of postal addresses
	unasked    []*entry            // whose requests were dropped with an earlier round of their saga, or lost with it
	mailings   []*entry            // those of unasked that may have provided a postal address that is in use
}

func newEffects(service string) *effects {
	return &effects{
		service: service, about: make(map[string][]*entry), applicants: make(map[string]string),
		posted: make(map[string]bool),
	}
}

// add sets an entry's effects. The intent is that of its command, or nil if the journal no longer holds it. A deletion
// of user data removes the effects of earlier entries about the same customer.
func (f *effects) add(e *entry, intent *treatyv1.StepScheduled) error {
	if e.Direction == audit.Compensation && e.Verdict == audit.Executed {
		f.mailings = slices.DeleteFunc(f.mailings, func(undone *entry) bool { return undone.CommandID == e.CommandID })
	}
	if e.Direction != audit.Action || e.Verdict != audit.Executed {
		return nil
	}
	if intent == nil {
		f.unasked = append(f.unasked, e)
	}
	asked, told, err := e.messages(intent.GetRequest())
	if err != nil {
		return err
	}
	customer := ""
	switch told := told.(type) {
	case *customerv1.CustomerCreated:
		customer, e.Effects = told.GetCustomer(), []string{told.GetCustomer()}
	case *customerv1.AddressChanged:
		customer, e.Effects = told.GetCustomer(), []string{revision(told.GetCustomer(), told.GetAddressRevision())}
	case *identityv1.ApplicantRegistered:
		customer = customerOf(asked)
		f.applicants[told.GetApplicant()] = customer
		e.Effects = []string{told.GetApplicant(), "register/" + told.GetRegisterReference()}
	case *identityv1.PassportInspected:
		customer, e.Effects = f.applicants[told.GetApplicant()], []string{told.GetInspection()}
	case *creditv1.CreditChecked:
		e.Effects = []string{told.GetCheck()} // It stays when its customer is forgotten.
	case *creditv1.CheckReused:
		e.Effects = []string{told.GetCheck()} // So does a copy.
	case *cardv1.CardIssued:
		customer, e.Effects = f.mailed(e, asked, told.GetCard())
	case *cardv1.ExtraCardIssued:
		customer, e.Effects = f.mailed(e, asked, told.GetCard())
	case *cardv1.PostalAddressChanged:
		customer, e.Effects = f.mailed(e, asked, "")
	case *notificationv1.WelcomeSent:
		customer, e.Effects = customerOf(asked), []string{told.GetMessage()}
	case *notificationv1.ReviewSent:
		customer, e.Effects = customerOf(asked), []string{told.GetMessage()}
	case *privacyv1.UserDataDeleted:
		f.erase(customerOf(asked))
	default:
		return fmt.Errorf("the ledger of %s has %s with the method %s, whose effects are unknown here", f.service,
			e.CommandID, e.method)
	}
	f.about[customer] = append(f.about[customer], e)
	return nil
}

// settle ends the derivation. An entry whose customer is unknown may have been about a forgotten one, so missing
// records aren't a violation. Likewise, it may have provided a postal address that no other entry did, but only one.
func (f *effects) settle(held []audit.Effect) {
	for _, e := range f.unasked {
		e.Effects = slices.DeleteFunc(e.Effects, func(resource string) bool {
			return !slices.ContainsFunc(held, func(h audit.Effect) bool { return h.Resource == resource && !h.Undone })
		})
	}
	for _, h := range held {
		if len(f.mailings) > 0 && !h.Undone && strings.Contains(h.Resource, "@") && !f.posted[h.Resource] {
			e := f.mailings[0]
			f.mailings = f.mailings[1:]
			e.Effects = append(e.Effects, h.Resource)
		}
	}
}

// mailed is the effect of a command that provides a postal address revision for a customer's cards. Only the first
// command for a revision has this effect.
func (f *effects) mailed(e *entry, asked proto.Message, card string) (customer string, left []string) {
	to, ok := asked.(interface {
		GetCustomer() string
		GetAddressRevision() int64
	})
	if !ok {
		return "", nil
	}
	if card != "" {
		left = append(left, card)
	}
	if to.GetCustomer() == "" {
		f.mailings = append(f.mailings, e)
		return "", left
	}
	if address := revision(to.GetCustomer(), to.GetAddressRevision()); !f.posted[address] {
		f.posted[address] = true
		left = append(left, address)
	}
	return to.GetCustomer(), left
}

// customerOf returns the customer that a request names, if any.
func customerOf(asked proto.Message) string {
	if about, ok := asked.(interface{ GetCustomer() string }); ok {
		return about.GetCustomer()
	}
	return ""
}

// erase removes the remaining effects about a customer.
func (f *effects) erase(customer string) {
	if customer == "" {
		return
	}
	for _, e := range f.about[customer] {
		e.Effects = nil
	}
	delete(f.about, customer)
	for address := range f.posted {
		if strings.HasPrefix(address, customer+"@") {
			delete(f.posted, address)
		}
	}
	for applicant, of := range f.applicants {
		if of == customer {
			delete(f.applicants, applicant)
		}
	}
}

// messages returns the request and the reply of an entry.
func (e *entry) messages(request []byte) (asked, told proto.Message, err error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(e.method, "/"), "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	described, ok := found.(protoreflect.MethodDescriptor)
	if err != nil || !ok {
		return nil, nil, fmt.Errorf("the ledger has %s with the method %s, which no contract has", e.CommandID,
			e.method)
	}
	if asked, err = read(described.Input(), request); err != nil {
		return nil, nil, fmt.Errorf("reading the request of %s: %w", e.CommandID, err)
	}
	if told, err = read(described.Output(), e.reply); err != nil {
		return nil, nil, fmt.Errorf("reading the reply of %s: %w", e.CommandID, err)
	}
	return asked, told, nil
}

func read(described protoreflect.MessageDescriptor, data []byte) (proto.Message, error) {
	kind, err := protoregistry.GlobalTypes.FindMessageByName(described.FullName())
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", described.FullName(), err)
	}
	message := kind.New().Interface()
	return message, proto.Unmarshal(data, message)
}

func revision(customer string, number int64) string {
	return customer + "@" + strconv.FormatInt(number, 10)
}
