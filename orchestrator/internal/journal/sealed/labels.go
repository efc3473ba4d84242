package sealed

import (
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// sealedLabel is the label whose value is an envelope of all labels. No label of a saga can have this name.
const sealedLabel = "treaty:sealed"

// sealLabels returns the labels that a store keeps instead of the labels of a saga.
func (r *ring) sealLabels(saga string, labels map[string]string) (map[string]string, error) {
	if len(labels) == 0 {
		return nil, nil
	}
	if _, taken := labels[sealedLabel]; taken {
		return nil, fmt.Errorf("%w: saga %q has the label %s, which stores use themselves", journal.ErrInvalid, saga,
			sealedLabel)
	}
	data, err := json.Marshal(labels)
	if err != nil {
		return nil, err
	}
	envelope, err := r.seal(nil, data, labelsPlace(saga))
	if err != nil {
		return nil, err
	}
	stored := make(map[string]string, len(labels)+1)
	stored[sealedLabel] = base64.RawStdEncoding.EncodeToString(envelope)
	for label, value := range labels {
		stored[label] = r.digest(label, value)
	}
	return stored, nil
}

// openLabels replaces the labels of a row that was read by those of the saga. Labels that can't be read are missing.
func (r *Reader) openLabels(row *journal.Row) error {
	encoded, is := row.Labels[sealedLabel]
	if !is {
		return nil // it was stored before there were keys
	}
	stored := row.Labels
	row.Labels = nil
	what := "the labels of saga " + row.ID
	envelope, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil || !isSealed(envelope) {
		return fmt.Errorf("%w: %s aren't what was sealed", journal.ErrCorrupt, what)
	}
	data, err := r.open(envelope, labelsPlace(row.ID), what)
	if err != nil {
		return err
	}
	var labels map[string]string
	if err := json.Unmarshal(data, &labels); err != nil {
		return fmt.Errorf("%w: %s can't be read", journal.ErrCorrupt, what)
	}
	keys := r.keys.ring()
	for label, value := range labels {
		if stored[label] != keys.digest(label, value) {
			return fmt.Errorf("%w: %s aren't those by which it is found", journal.ErrCorrupt, what)
		}
	}
	if len(stored) != len(labels)+1 {
		return fmt.Errorf("%w: %s aren't those by which it is found", journal.ErrCorrupt, what)
	}
	row.Labels = labels
	return nil
}
