"""Looking for what Graph never told: windows of the list as they age, and the number that says how complete we are."""
