package conf

// tasksConf returns a drop-in for the system.conf of a box with a limit on pids. Without the drop-in, systemd in the
// box would hold every unit, and also init together with commands from outside, to 15% of the box's limit.
func tasksConf() string {
	return "# Written by boxrun: [resources] pids of the profile holds for the whole box.\n[Manager]\nDefaultTasksMax=infinity\n"
}
