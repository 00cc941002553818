// Package tab has what a shell offers when a person presses Tab: words the verb takes, and no others. On any failure
// nothing is offered, and nothing printed.
//
// Begin reading at Of.
package tab
