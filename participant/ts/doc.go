// Package ts has the tests of the npm package @treatyhq/participant, which is written in TypeScript.
package ts
