"""What calls are made of: people's names, devices, user agents, networks. Values only."""
