// Package profiles turns TOML files into valid profiles.
//
// The package owns the format of profiles: Profile and its defaults, the search path, the strict decoding over Default,
// the template and the built-in profiles. Every rule is checked here that needs no look at the kernel. A mistake is
// reported with file, line, key, rule and value. Trusted says who may have written a profile. The package knows nothing
// of networks, processes or Apptainer, and imports no other package of boxrun. Begin reading at Profile in profile.go,
// then Search.Load in search.go and Parse in decode.go.
package profiles
