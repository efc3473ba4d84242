// Package incoming reads what orchestrators send: the metadata of commands, and the calls of
// treaty.v1.ParticipantService. Participants use it, and so does an orchestrator that runs child sagas for others.
package incoming
