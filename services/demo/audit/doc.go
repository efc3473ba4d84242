// Package audit checks what an orchestrator and its participants recorded against the invariants that Treaty promises.
// It does so from outside: it reads journals as the API shows them, the participants' ledgers, and the effects in their
// own tables, and trusts none of them more than the others.
//
// It is pure: it opens no database and makes no calls. Gather the facts when nothing is running.
package audit
