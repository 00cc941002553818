// Package boxtest makes boxes for tests of the rooms above package box.
package boxtest
