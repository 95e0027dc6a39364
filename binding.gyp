{
  # Hands the build to CMake; no logic. Only tools that look for this file come here: npm runs the script directly.
  "targets": [
    {
      "target_name": "mlxk",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": [],
          "outputs": ["build/Release/mlxk.node"],
          "action": ["node", "scripts/install.mjs", "--from-source"]
        }
      ]
    }
  ]
}
