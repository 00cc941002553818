// Package rows words what the launcher tells of boxes as rows of tables: a cell for each column, for ps, status and diff.
// The package prints nothing.
//
// Begin reading at Ps and Status.
package rows
