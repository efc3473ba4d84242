package main

import (
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/participant"
)

// poBox matches the lines of an address that name a P.O. box: "PO Box 7", "P.O. Box 7", "p. o. box 7", "Post Office Box
// 7".
var poBox = regexp.MustCompile(`(?i)\b(p\.?\s*o\.?\s*box|post\s+office\s+box)\b`)

// checkPostal refuses addresses that can't receive cards. The recipient must sign for a card, which isn't possible at a
// P.O. box.
func checkPostal(p *cardv1.Postal) error {
	switch {
	case p == nil:
		return status.Error(codes.InvalidArgument, "postal: missing")
	case len(p.GetLines()) == 0 || len(p.GetLines()) > 4:
		return status.Errorf(codes.InvalidArgument, "postal.lines: want 1 to 4, got %d", len(p.GetLines()))
	case strings.TrimSpace(p.GetCity()) == "" || len(p.GetCity()) > 100:
		return status.Error(codes.InvalidArgument, "postal.city: want 1 to 100 bytes")
	case len(p.GetPostalCode()) > 20:
		return status.Error(codes.InvalidArgument, "postal.postal_code: want at most 20 bytes")
	case len(p.GetCountry()) != 2 || strings.Trim(p.GetCountry(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "":
		return status.Error(codes.InvalidArgument, "postal.country: want two capital letters of ISO 3166-1, e.g. NL")
	}
	for i, line := range p.GetLines() {
		if strings.TrimSpace(line) == "" || len(line) > 200 || strings.ContainsAny(line, "\r\n") {
			return status.Errorf(codes.InvalidArgument, "postal.lines[%d]: want 1 to 200 bytes and no line break", i)
		}
		if poBox.MatchString(line) {
			return participant.Refuse(codes.FailedPrecondition, "cards are not posted to P.O. boxes",
				&cardv1.AddressNotServed{Reason: "cards are handed over against a signature, so not to a P.O. box"})
		}
	}
	return nil
}
