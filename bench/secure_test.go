package main

import (
	"testing"

	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/participant"
)

// TestSecureDir makes the files of a secured side. Each process accepts its own.
func TestSecureDir(t *testing.T) {
	secure, err := newSecureDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := orchestrator.New(secure.orchestrator()...); err != nil {
		t.Errorf("the orchestrator: %v", err)
	}
	if _, err := participant.NewServer(secure.participant(participant.Options{})); err != nil {
		t.Errorf("the participant: %v", err)
	}
	creds, err := secure.client()
	if err != nil || creds.Info().SecurityProtocol != "tls" {
		t.Errorf("the client has %v, %v", creds, err)
	}
	var plain secureDir
	if creds, err := plain.client(); err != nil || creds.Info().SecurityProtocol != "insecure" || plain.args() != nil {
		t.Errorf("without a directory, the client has %v, %v", creds, err)
	}
}
