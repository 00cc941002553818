// Package first leads a person to a first box: commands that make a box of what was typed, and a new profile.
//
// Package first starts nothing. Begin with Behind in steps.go, and Write in write.go.
package first
