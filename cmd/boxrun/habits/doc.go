// Package habits answers the words of Docker, Compose, Podman, systemctl, machinectl, Incus, Lima, Vagrant and kubectl, and
// mistyped words. Words that fit are aliases of verbs, or flags of no effect, and stand beside the verbs. For all others the
// package names the verb or flag to type. The package starts nothing.
//
// Begin reading at verbs.txt, forms.txt and flags.txt.
package habits
