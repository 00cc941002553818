// Package box has the record of a box and the store of all records: files below the state directory, and the locks
// that let one boxrun at a time work on a box or on the host's network.
//
// Package box starts and stops nothing. Begin with Box, then Store.Load and Store.LockBox.
package box
