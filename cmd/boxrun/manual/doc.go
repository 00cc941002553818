// Package manual makes boxrun's manual pages: boxrun(1) and a page for each verb from the commands as cobra has them, and
// boxrun.toml(5) from the reference of profiles. The package knows no verb by name.
//
// Begin reading at Pages.
package manual
