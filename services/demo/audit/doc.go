// Package audit holds what an orchestrator and its participants recorded against the invariants that Treaty promises,
// from outside: it reads journals as the API shows them, the participants' ledgers, and the effects in their own
// tables, and trusts none of them more than the others.
//
// It is pure: it opens no database and calls nobody. Whoever gathers the facts must do so when nothing runs any more.
package audit
