// Package dns asks name servers whether they answer at all, from any network a dialer leads to. The package knows a single
// question, reads no answer and no files, and must not know plans, boxes or profiles. Begin with [Ask].
package dns
