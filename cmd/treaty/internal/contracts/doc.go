// Package contracts compares what sagas expect of participants with what a running participant offers.
//
// [New] describes the methods that sagas call, with all message types that can be reached from them, as a [File].
// [File.Encode] writes it as YAML for people to review and commit, and [Parse] reads it. [Check] asks a participant for
// its descriptors by server reflection, and reports each expectation that it doesn't meet.
//
// A file has no times and limits. It has no code of the sagas either, so nothing says what a field is used for: a field
// that keeps its name and type, and gets another meaning, isn't noticed.
package contracts
