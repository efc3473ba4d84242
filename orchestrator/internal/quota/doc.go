// Package quota bounds what callers hold at a server: how many streams they have open, and how many bytes wait until
// they are read.
//
// Bytes are counted for the call, for its connection, for its caller and in total. A call reserves room before it makes
// what it sends. Each message is counted from then on until the transport has written it, or its connection has
// closed, also after the call has ended. A call that gets no room waits for it, and its reader is stalled if it takes
// nothing meanwhile.
package quota
