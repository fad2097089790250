"""What stands in for programs that the tests cannot have: Azure CLI, PowerShell with Microsoft's module, pip."""
