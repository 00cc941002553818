// Command boxrun makes Apptainer containers that boot systemd as easy as docker compose up.
//
// The package owns the command line: verbs, flags, completion, help and manual pages, the text on the terminal, exit
// codes and hints, sudo, and whom to trust with a profile. What a verb does to boxes and to the host is the launcher's
// business. So the package runs neither Apptainer nor iptables and writes no records. Begin reading at run in main.go
// and newRoot in root.go. Every verb has a file of its own, such as up.go. exit.go turns errors into exit codes.
package main
