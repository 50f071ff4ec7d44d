"""Where and when it runs: the command line, recipes, cluster jobs. Installed as `chameleon_data.jobs`."""
