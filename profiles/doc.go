// Package profiles turns TOML files into valid profiles: it finds them, decodes them strictly over Default, checks
// every rule that can be checked without looking at the kernel, and names file, line, key, rule and value of whatever
// is wrong. It knows nothing of networks, processes or Apptainer.
package profiles
