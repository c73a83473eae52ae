// Package overlap contains the test that two versions of the programs work on one schema, whichever is upgraded first: the
// programs or the schema.
package overlap
